"""Asks a running projection which layers vanish: python ask_gradients.py DATA/projections/gradients"""

import json
import sys
from pathlib import Path

import httpx
import pyarrow as pa

SQL = "SELECT run_id, layer, first_step, vanishing FROM layers WHERE vanishing >= $least ORDER BY ALL"

owner = json.loads((Path(sys.argv[1]) / "owner.json").read_text())
token = Path(owner["token_file"]).read_text().strip()
reply = httpx.post(
    f"{owner['url']}/query",
    json={"sql": SQL, "parameters": {"least": 1}},
    headers={"Authorization": f"Bearer {token}"},
    timeout=60,
    trust_env=False,  # it is on this machine: no proxy
)
if reply.status_code != 200:
    sys.exit(reply.json()["error"])
for row in pa.ipc.open_stream(reply.content).read_all().to_pylist():
    sys.stdout.write(f"{row}\n")
