"""The machine's load as metrics ``system/...``, MLflow's names: processor, memory, disk, network, process, GPUs.

psutil and pynvml (NVML) are optional; without either nothing is sampled, which is said.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runtide.messages import say
from runtide.tracking.companions import Ticker

if TYPE_CHECKING:
    from runtide.tracking.run_log import RunLog

_MEGABYTE = 1e6
Sampler = Callable[[], Mapping[str, float]]


class SystemMetrics:
    """Samples the machine in the background, at an interval, from the start of a run to its end.

    The step is the number of the sample. A forked child does not go on with it.
    """

    def __init__(self, run: "RunLog", interval: float, samplers: tuple[Sampler, ...] | None = None) -> None:
        """Start sampling.

        Args:
            run: to log to.
            interval: seconds between samples.
            samplers: what is sampled; what this machine offers when None.
        """
        self._run = run
        self._step = 0
        self._samplers = find_samplers() if samplers is None else samplers
        self._failed: set[int] = set()
        self._ticker = Ticker("system metrics", interval, self._sample) if self._samplers else None
        if not self._samplers:
            say("no system metrics: install psutil and nvidia-ml-py, e.g. with the extra runtide[system]")

    def stop(self, timeout: float) -> None:
        """Take a last sample and stop."""
        if self._ticker is not None:
            self._ticker.stop(timeout)

    def abandon(self) -> None:
        """A forked child samples nothing; its parent still does."""

    def _sample(self) -> None:
        values: dict[str, float] = {}
        for number, sampler in enumerate(self._samplers):
            if number not in self._failed:
                try:
                    values |= sampler()
                except Exception as error:  # noqa: BLE001 - drivers raise what they like; the others go on
                    self._failed.add(number)
                    say(f"system metrics go on without one source: {type(error).__name__}: {error}")
        self._run.log_metrics({f"system/{name}": value for name, value in values.items()}, step=self._step)
        self._step += 1


def find_samplers() -> tuple[Sampler, ...]:
    """Return the samplers that work on this machine."""
    return (*_machine_samplers(), *_gpu_samplers())


def _machine_samplers() -> tuple[Sampler, ...]:
    try:
        import psutil
    except ImportError:
        return ()
    process = psutil.Process()
    psutil.cpu_percent()  # the first call only begins the measuring
    process.cpu_percent()

    def machine() -> Mapping[str, float]:
        memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / _MEGABYTE,
        }

    def this_process() -> Mapping[str, float]:
        return {
            "process_cpu_percentage": process.cpu_percent(),
            "process_memory_megabytes": process.memory_info().rss / _MEGABYTE,
        }

    return machine, this_process, _rates(psutil)


def _rates(psutil: Any) -> Sampler:
    """Megabytes through network and disks: since the start in all (MLflow's), and per second."""
    began = psutil.net_io_counters()
    last: dict[str, float] = {}
    last_at = time.monotonic()

    def sample() -> Mapping[str, float]:
        nonlocal last, last_at
        network, disks, now = psutil.net_io_counters(), psutil.disk_io_counters(), time.monotonic()
        totals = {"network_receive": network.bytes_recv, "network_transmit": network.bytes_sent}
        if disks is not None:  # some containers have none
            totals |= {"disk_read": disks.read_bytes, "disk_write": disks.write_bytes}
        seconds = now - last_at
        rates = {
            f"{name}_megabytes_per_second": (total - last[name]) / _MEGABYTE / seconds
            for name, total in totals.items()
            if name in last and seconds > 0
        }
        last, last_at = dict(totals), now
        return rates | {
            "network_receive_megabytes": (network.bytes_recv - began.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (network.bytes_sent - began.bytes_sent) / _MEGABYTE,
        }

    sample()
    return sample


def _gpu_samplers() -> tuple[Sampler, ...]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 - no such module, no driver, no GPU: nothing to sample, which is usual
        return ()
    return tuple(_gpu_sampler(pynvml, number, handle) for number, handle in enumerate(handles))


def _gpu_sampler(nvml: Any, number: int, handle: Any) -> Sampler:
    def sample() -> Mapping[str, float]:
        memory, rates = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetUtilizationRates(handle)
        values = {
            "memory_usage_megabytes": memory.used / _MEGABYTE,
            "memory_usage_percentage": 100 * memory.used / memory.total,
            "utilization_percentage": rates.gpu,
        }
        try:
            watts = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            limit = nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
            values |= {"power_usage_watts": watts, "power_usage_percentage": 100 * watts / limit}
        except nvml.NVMLError:
            pass  # not every GPU tells its power
        return {f"gpu_{number}_{name}": value for name, value in values.items()}

    return sample
