"""Write a small spool as the installed version does, and pack it: run once per spool format, commit, keep for ever.

    python tests/spools/generate.py tests/spools/format-2.zip

The writer is killed with points in its tail, some events acknowledged, and the end of the run not written.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

RUN = "5b001" + "0" * 27

WRITER = f"""
import os, sys
from pathlib import Path
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas.events.runs import ParamsLogged, TagsSet
from runtide_schemas.identity import now_ms
spool = WriterSpool.create(Path(sys.argv[1]), "{RUN}", SpoolLimits(), creator=True, actor="a user")
for number in range(5):
    spool.append(ParamsLogged(run_id="{RUN}", params={{f"p{{number}}": "w\u00e4rm" * number}}), 1_700_000_000_000 + number)
spool.append(TagsSet(run_id="{RUN}", tags={{"kind": "corpus"}}), 1_700_000_000_005)
loss, rate = spool.keys.add("loss"), spool.keys.add("lernrate/\u00fc")
values = [0.5, float("nan"), float("inf"), float("-inf"), -0.0]
for step in range(100):
    spool.points.append((loss, rate)[step % 2], step, 1_700_000_000_000 + step, values[step % 5])
    if step in (40, 70):
        spool.seal()
spool.acknowledge("runtide.runs", 2)
spool.save_acknowledged()
os.kill(os.getpid(), 9)
"""


def main(target: Path) -> None:
    """Pack a new spool into ``target``."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-c", WRITER, directory], env=dict(os.environ), check=False)
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(Path(directory).rglob("*")):
                archive.write(path, path.relative_to(directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
