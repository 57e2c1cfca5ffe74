"""The supervisor, over real children: small Python programs that behave well or badly."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from runtide_deploy.standalone import child_process, supervised
from runtide_deploy.standalone.leftovers import ChildRecord, SupervisorState, end_leftovers
from runtide_deploy.standalone.services import (
    RestartPolicy,
    ServiceEvent,
    ServiceSpec,
    ServiceStartError,
    ServiceState,
    ServiceTableError,
    SupervisorRunningError,
    in_start_order,
)
from runtide_deploy.standalone.supervisor import Supervisor

FOREVER = "print('up', flush=True); import time; time.sleep(600)"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER
QUICK = RestartPolicy(first_delay_s=0.01, longest_delay_s=0.1, healthy_after_s=60, failures_at_start=3)


def service(folder: Path, name: str, program: str = FOREVER, *, depends_on: tuple[str, ...] = ()) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        command=[sys.executable, "-c", program],
        log_path=folder / "logs" / f"{name}.log",
        ready="^up$",
        ready_timeout_s=60,
        depends_on=depends_on,
        stop_timeout_s=60,
    )


@asynccontextmanager
async def supervising(
    folder: Path, *specs: ServiceSpec, on_event: Callable[[ServiceEvent], None] | None = None
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(specs, folder / "state.json", on_event=on_event, policy=QUICK)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def eventually(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    deadline = time.monotonic() + deadline_s
    while True:
        if condition():
            return
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.01)


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = {status.name: status.pid for status in supervisor.status()}[name]
    assert pid is not None
    return pid


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_services_start_after_what_they_depend_on_and_stop_before_it(tmp_path: Path) -> None:
    events: list[tuple[str, ServiceState]] = []
    specs = (
        service(tmp_path, "gateway", depends_on=("store", "broker")),
        service(tmp_path, "store", depends_on=("broker",)),
        service(tmp_path, "broker"),
    )
    async with supervising(tmp_path, *specs, on_event=lambda e: events.append((e.name, e.state))) as supervisor:
        assert await supervisor.start()
        assert [status.state for status in supervisor.status()] == [ServiceState.READY] * 3
    order = ["broker", "store", "gateway"]
    assert [name for name, state in events if state is ServiceState.READY] == order
    assert [name for name, state in events if state is ServiceState.STOPPED] == order[::-1]
    assert events.index(("broker", ServiceState.READY)) < events.index(("store", ServiceState.STARTING))


async def test_each_child_leads_its_own_session_and_logs_to_its_file(tmp_path: Path) -> None:
    async with supervising(tmp_path, service(tmp_path, "one")) as supervisor:
        await supervisor.start()
        pid = pid_of(supervisor, "one")
        assert os.getsid(pid) == pid
        assert (tmp_path / "logs" / "one.log").read_text() == "up\n"
    assert gone(pid)


async def test_environment_is_added_to_the_inherited_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    program = "import os; print(os.environ['INHERITED'], os.environ['ADDED']); " + FOREVER
    spec = replace(service(tmp_path, "one", program), env={"ADDED": "too"})
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        assert spec.log_path.read_text() == "yes too\nup\n"


async def test_a_killed_service_is_started_again_and_others_stay(tmp_path: Path) -> None:
    async with supervising(tmp_path, service(tmp_path, "victim"), service(tmp_path, "bystander")) as supervisor:
        await supervisor.start()
        victim, bystander = pid_of(supervisor, "victim"), pid_of(supervisor, "bystander")
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: supervisor.status()[0].restarts == 1)
        await eventually(lambda: supervisor.status()[0].state is ServiceState.READY)
        assert pid_of(supervisor, "victim") != victim
        assert supervisor.status()[0].last_exit == -signal.SIGKILL
        assert pid_of(supervisor, "bystander") == bystander


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".state.json-*"))


async def test_a_full_disk_does_not_end_the_stack_when_a_service_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervising(tmp_path, service(tmp_path, "one"), service(tmp_path, "other")) as supervisor:
        await supervisor.start()
        waiting = asyncio.create_task(supervisor.wait())

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(json, "dump", refuse)
        os.kill(pid_of(supervisor, "one"), signal.SIGKILL)
        await eventually(lambda: supervisor.status()[0].restarts == 1)
        await eventually(lambda: supervisor.status()[0].state is ServiceState.READY)
        assert not waiting.done()
        assert not unfinished(tmp_path)
        waiting.cancel()


async def test_after_the_start_it_never_gives_up(tmp_path: Path) -> None:
    """Ready once, a service may fail more often than a start may."""
    counter = tmp_path / "starts"
    first = f"import sys; p = open({str(counter)!r}, 'a'); again = p.tell(); p.write('x'); p.close(); again and sys.exit(); "
    async with supervising(tmp_path, service(tmp_path, "one", first + FOREVER)) as supervisor:
        assert await supervisor.start()
        waiting = asyncio.create_task(supervisor.wait())
        os.kill(pid_of(supervisor, "one"), signal.SIGKILL)
        await eventually(lambda: supervisor.status()[0].restarts > QUICK.failures_at_start + 1)
        assert not waiting.done()
        waiting.cancel()
    assert len(counter.read_text()) > QUICK.failures_at_start + 1


def test_back_off_doubles_up_to_its_limit() -> None:
    policy = RestartPolicy()
    assert [policy.delay_s(failures) for failures in (1, 2, 3, 6, 7, 1000)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0]


async def test_a_service_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    events: list[ServiceEvent] = []
    broken = service(tmp_path, "broken", "import sys; print('port 9092 is in use', flush=True); sys.exit(3)")
    dependent = service(tmp_path, "dependent", depends_on=("broken",))
    async with supervising(tmp_path, broken, dependent, on_event=events.append) as supervisor:
        with pytest.raises(ServiceStartError, match=r"(?s)'broken' failed 3 times.*status 3.*port 9092 is in use"):
            await supervisor.start()
        assert supervisor.status()[0].state is ServiceState.FAILED
        assert supervisor.status()[1].state is ServiceState.WAITING
    back_offs = [event.text for event in events if event.state is ServiceState.BACKING_OFF]
    assert back_offs == ["ended with status 3; again in 0.01 s", "ended with status 3; again in 0.02 s"]


async def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    spec = replace(service(tmp_path, "one"), command=["/no/such/program", "--flag"])
    async with supervising(tmp_path, spec) as supervisor:
        with pytest.raises(ServiceStartError, match="cannot run /no/such/program: No such file or directory"):
            await supervisor.start()


async def test_never_ready_is_a_failure(tmp_path: Path) -> None:
    spec = replace(service(tmp_path, "mute", "import time; time.sleep(600)"), ready_timeout_s=0.2)
    async with supervising(tmp_path, spec) as supervisor:
        with pytest.raises(ServiceStartError, match=r"not ready within 0\.2 s"):
            await supervisor.start()


TELLS = """
import sys, time
from pathlib import Path
for number in range(1, 5):
    print(f"{number} of 5 records are read", flush=True)
    while not Path(sys.argv[1], str(number)).exists():
        time.sleep(0.01)
print("up", flush=True)
time.sleep(600)
"""


async def test_one_that_says_that_it_gets_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of years takes longer to read than a service may hang: four times 15 of 20 s, by a clock of ours."""
    clock, seen = [0.0], list[str]()
    monkeypatch.setattr(supervised, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(supervised, "_LOOK_S", 0.01)

    def note(event: ServiceEvent) -> None:
        if event.state is ServiceState.CATCHING_UP:
            seen.append(event.text)
            clock[0] += 15.0
            (tmp_path / str(len(seen))).touch()

    spec = replace(service(tmp_path, "one", TELLS), progress=r"\d+ of \d+ records", ready_timeout_s=20)
    spec = replace(spec, command=[*spec.command, str(tmp_path)])
    async with supervising(tmp_path, spec, on_event=note) as supervisor:
        await supervisor.start()
        assert supervisor.status()[0].restarts == 0
    assert seen == [f"{number} of 5 records" for number in range(1, 5)]


def says(log: Path, words: str) -> bool:
    return log.exists() and words in log.read_text()


async def test_the_log_of_one_that_never_ends_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_LARGEST_LOG_BYTES", 1_000)
    monkeypatch.setattr(supervised, "_TRIM_S", 0.01)
    talks = (
        "import sys, time, pathlib\nprint('up', flush=True)\nfolder = pathlib.Path(sys.argv[1])\n"
        "for number in range(3):\n"
        "    while not (folder / str(number)).exists(): time.sleep(0.01)\n"
        "    print(str(number) * 2_000, flush=True)\n"
        "time.sleep(600)"
    )
    spec = service(tmp_path, "one", talks)
    spec = replace(spec, command=[*spec.command, str(tmp_path)])
    log, older = spec.log_path, spec.log_path.with_name("one.log.1")
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        for number in range(3):
            (tmp_path / str(number)).touch()
            await eventually(partial(says, older, str(number) * 2_000))
            await eventually(lambda: log.read_bytes() == b"")
        assert supervisor.status()[0].restarts == 0
    assert older.read_text() == "2" * 2_000 + "\n"


async def test_ready_may_be_a_check_and_a_step_may_come_before(tmp_path: Path) -> None:
    calls: list[str] = []
    spec = service(tmp_path, "one")

    async def prepare() -> None:
        calls.append("before")

    async def check() -> None:
        await eventually(lambda: "up" in spec.log_path.read_text())
        calls.append("ready")

    async with supervising(tmp_path, replace(spec, ready=check, before_start=prepare)) as supervisor:
        await supervisor.start()
        assert calls == ["before", "ready"]
        os.kill(pid_of(supervisor, "one"), signal.SIGKILL)
        await eventually(lambda: len(calls) == 4)
        assert calls == ["before", "ready"] * 2


async def test_a_step_that_refuses_is_the_reason_of_the_failure(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise RuntimeError("another server runs here")

    async with supervising(tmp_path, replace(service(tmp_path, "one"), before_start=refuse)) as supervisor:
        with pytest.raises(ServiceStartError, match="another server runs here"):
            await supervisor.start()


async def test_one_that_ignores_its_stop_signal_is_killed_after_its_deadline(tmp_path: Path) -> None:
    spec = replace(service(tmp_path, "stubborn", IGNORES_SIGTERM), stop_timeout_s=0.3)
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        pid = pid_of(supervisor, "stubborn")
        await supervisor.stop()
        assert supervisor.status()[0].last_exit == -signal.SIGKILL
    assert gone(pid)


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    spec = replace(service(tmp_path, "stubborn", IGNORES_SIGTERM), stop_timeout_s=600)
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(supervisor.wait(), 60)
        stopping = asyncio.create_task(supervisor.stop())
        await eventually(lambda: supervisor.status()[0].state is ServiceState.STOPPING)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(stopping, 60)
        assert supervisor.status()[0].last_exit == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_a_start_that_still_waits(tmp_path: Path, number: signal.Signals) -> None:
    async with supervising(tmp_path, service(tmp_path, "mute", "import time; time.sleep(600)")) as supervisor:
        starting = asyncio.create_task(supervisor.start())
        await eventually(lambda: bool(supervisor.status()) and supervisor.status()[0].pid is not None)
        pid = pid_of(supervisor, "mute")
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(starting, 60) is False
    assert gone(pid)


async def test_grandchildren_in_their_own_session_end_too(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
        "print(p.pid, flush=True); " + FOREVER
    )
    spec = service(tmp_path, "parent", program)
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        grandchild = int(spec.log_path.read_text().split()[0])
        assert not gone(grandchild)
    assert gone(grandchild)


async def test_a_large_log_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    spec = service(tmp_path, "one")
    spec.log_path.parent.mkdir()
    spec.log_path.write_bytes(b"old\n" * (3 * 1024 * 1024))
    async with supervising(tmp_path, spec) as supervisor:
        await supervisor.start()
        assert spec.log_path.read_text() == "up\n"
        assert spec.log_path.with_name("one.log.1").stat().st_size == 12 * 1024 * 1024


async def test_ready_looks_only_at_what_this_process_wrote(tmp_path: Path) -> None:
    spec = replace(service(tmp_path, "one", "import time; time.sleep(600)"), ready_timeout_s=0.2)
    spec.log_path.parent.mkdir()
    spec.log_path.write_text("up\n")
    async with supervising(tmp_path, spec) as supervisor:
        with pytest.raises(ServiceStartError, match="not ready"):
            await supervisor.start()


SUPERVISING_PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_supervisor import service, supervising, FOREVER

async def main(folder):
    program = ("import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
               " start_new_session=True); print('grandchild', p.pid, flush=True); " + FOREVER)
    async with supervising(folder, service(folder, "one"), service(folder, "two", program)) as supervisor:
        await supervisor.start()
        print(*(status.pid for status in supervisor.status()), flush=True)
        await supervisor.wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def start_supervisor(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING_PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def wait_until(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    asyncio.run(eventually(condition, deadline_s))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_no_child_outlives_a_killed_supervisor_and_the_next_start_ends_the_rest(tmp_path: Path) -> None:
    process, pids = start_supervisor(tmp_path)
    with process:
        process.kill()
    wait_until(lambda: all(gone(pid) for pid in pids))
    grandchild = int((tmp_path / "logs" / "two.log").read_text().split()[1])
    assert not gone(grandchild), "a session of its own: only its mark gives it away"
    assert end_leftovers(tmp_path / "state.json") == [grandchild]
    assert gone(grandchild)


def test_sigterm_to_a_supervisor_ends_everything(tmp_path: Path) -> None:
    process, pids = start_supervisor(tmp_path)
    with process:
        process.terminate()
        assert process.wait(60) == 0
    assert all(gone(pid) for pid in pids)
    assert not (tmp_path / "state.json").exists()


def test_a_second_supervisor_over_the_same_state_is_refused(tmp_path: Path) -> None:
    process, _ = start_supervisor(tmp_path)
    with process:
        try:
            state = (tmp_path / "state.json").read_text()

            async def second() -> None:
                async with supervising(tmp_path, service(tmp_path, "three")) as supervisor:
                    await supervisor.start()

            with pytest.raises(SupervisorRunningError, match=str(process.pid)):
                asyncio.run(second())
            assert (tmp_path / "state.json").read_text() == state
        finally:
            process.terminate()


def test_a_recorded_child_that_lives_is_ended_by_its_stop_signal(tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    program = (
        "import pathlib, signal, sys; "
        f"signal.signal(signal.SIGUSR1, lambda *_: sys.exit(pathlib.Path({str(mark)!r}).touch())); "
    ) + FOREVER
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        started = psutil.Process(child.pid).create_time()
        record = {"child": ChildRecord(child.pid, started, signal.SIGUSR1)}
        SupervisorState(2**22 + 1, 0.0, "nobody", record).write(tmp_path / "state.json")
        assert end_leftovers(tmp_path / "state.json") == [child.pid]
    assert mark.exists()


def test_a_process_that_only_has_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE) as stranger:
        record = {"child": ChildRecord(stranger.pid, time.time() - 3600, signal.SIGTERM)}
        SupervisorState(os.getppid(), 0.0, "nobody", record).write(tmp_path / "state.json")
        assert end_leftovers(tmp_path / "state.json") == []
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', json.dumps({"children": {"a": 3}})])
def test_an_illegible_state_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert end_leftovers(tmp_path / "state.json") == []


def test_contradictory_tables_are_refused(tmp_path: Path) -> None:
    one, two = service(tmp_path, "one", depends_on=("two",)), service(tmp_path, "two", depends_on=("one",))
    with pytest.raises(ServiceTableError, match="one -> two -> one"):
        in_start_order([one, two])
    with pytest.raises(ServiceTableError, match="depends on 'two', which is not in the table"):
        in_start_order([one])
    with pytest.raises(ServiceTableError, match="Two services have one name"):
        in_start_order([two, two])
