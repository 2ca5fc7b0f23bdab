"""The dashboard's rows about the processes themselves: the GPU, memory, cores, files, versions, models."""

from __future__ import annotations

from typing import Final

from deploy.generate.dashboard_parts import (
    OURS,
    RED,
    SHARE,
    Panel,
    Query,
    Row,
    rate,
    select,
)

_MEMORY = "process_resident_memory_bytes"


def _of_gpu(metric: str) -> str:
    """A metric of NVIDIA's exporter, which knows hosts and GPUs but not the worker's release."""
    return f'max by (Hostname, gpu) ({metric}{{Hostname=~"$gpu_host"}})'


_GPU_LINE: Final = "{{Hostname}} GPU {{gpu}}"
_NO_EXPORTER: Final = "Needs NVIDIA's DCGM exporter"

GPU: Final = Row(
    "GPU",
    (
        Panel(
            "Device busy",
            "Share of the time in which the model's device computed, by worker; on a CPU the time of the "
            "forward passes. Good under load: above 80 % on a GPU. Low with a lag: it starves, see "
            "Stages.",
            SHARE,
            (
                Query(
                    f"sum by (instance) ({rate('entityclip_device_busy_seconds_total')})",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "GPU utilisation",
            "From NVIDIA's DCGM exporter, if the cluster runs it: time in which any kernel ran. Good: in "
            "step with Device busy. Higher: others use the same GPU.",
            "percent",
            (Query(_of_gpu("DCGM_FI_DEV_GPU_UTIL"), _GPU_LINE),),
            top=100,
            without_data=_NO_EXPORTER,
        ),
        Panel(
            "GPU memory",
            "Share of the GPU's memory in use. Good: flat after the warm-up. Creeping up: a leak; near "
            "100 %: lower encode.batch_rows or batch_pixels.",
            SHARE,
            (
                Query(
                    f"{_of_gpu('DCGM_FI_DEV_FB_USED')} / ({_of_gpu('DCGM_FI_DEV_FB_USED')} + "
                    f"{_of_gpu('DCGM_FI_DEV_FB_FREE')} > 0)",
                    _GPU_LINE,
                ),
            ),
            top=1,
            without_data=_NO_EXPORTER,
        ),
        Panel(
            "GPU temperature",
            "Good: below the GPU's limit (about 85 °C). At it the clock is lowered, and with it the rate "
            "of posts.",
            "celsius",
            (Query(_of_gpu("DCGM_FI_DEV_GPU_TEMP"), _GPU_LINE),),
            steps=((85, RED),),
            without_data=_NO_EXPORTER,
        ),
        Panel(
            "GPU power",
            "Good: high under load. Low while Device busy is high: small batches, see Batch fill.",
            "watt",
            (Query(_of_gpu("DCGM_FI_DEV_POWER_USAGE"), _GPU_LINE),),
            without_data=_NO_EXPORTER,
        ),
        Panel(
            "Last XID error",
            "The number of the driver's last error on the GPU. Good: 0. Above: NVIDIA's list of XIDs says"
            " whether the node must be drained (48, 63, 79, 94, 95) or the process was at fault (13, 31, "
            "43).",
            "none",
            (Query(_of_gpu("DCGM_FI_DEV_XID_ERRORS"), _GPU_LINE),),
            steps=((1, RED),),
            without_data=_NO_EXPORTER,
        ),
    ),
)

PROCESS: Final = Row(
    "Processes",
    (
        Panel(
            "Memory",
            "Resident memory of each worker. Good: flat after some minutes, below the pod's limit (4 GiB "
            "by default). Creeping up for hours: a leak; at the limit the pod is killed and its posts run"
            " again.",
            "bytes",
            (Query(f"max by (instance) ({select(_MEMORY, OURS)})", "{{instance}}"),),
            steps=((0.9 * 4 * 2**30, RED),),
        ),
        Panel(
            "CPU",
            "Cores that each worker uses. Good: below the pod's limit. At it: the pod is throttled, all "
            "stages slow down and sessions with Kafka may end.",
            "suffix:cores",
            (
                Query(
                    f"sum by (instance) ({rate('process_cpu_seconds_total', OURS)})",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Open files",
            "Share of the files and sockets that each worker may open. Good: a few percent, flat. "
            "Climbing: connections are not closed; at 100 % nothing connects any more.",
            SHARE,
            (
                Query(
                    f"max by (instance) ({select('process_open_fds', OURS)} / "
                    f"({select('process_max_fds', OURS)} > 0))",
                    "{{instance}}",
                ),
            ),
            steps=((0.8, RED),),
        ),
        Panel(
            "Age",
            "How long each process has run. Good: since the last upgrade. A saw-tooth: it dies again and "
            "again.",
            "s",
            (
                Query(
                    f"time() - max by (instance) ({select('process_start_time_seconds', OURS)})",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Ready",
            "1 while a worker is ready. Good: 1. 0 for minutes: it loads, drains, hangs or waits for a "
            "dependency; /readyz names it.",
            "none",
            (Query(f"max by (instance) ({select('entityclip_ready')})", "{{instance}}"),),
            top=1,
            decimals=0,
        ),
        Panel(
            "Versions",
            "Workers by version. Good: one version, two during an upgrade. Two for long: the upgrade is "
            "stuck.",
            "suffix:workers",
            (Query(f"count by (version) ({select('entityclip_build_info')})", "{{version}}"),),
            width=4,
            stacked=True,
            decimals=0,
        ),
        Panel(
            "Models",
            "Workers by the model that serves. Good: one model, two during a change of models. Two for "
            "long: posts of one are not matched with posts of the other.",
            "suffix:workers",
            (Query(f"count by (model_id) ({select('entityclip_model_info')})", "{{model_id}}"),),
            width=4,
            stacked=True,
            decimals=0,
        ),
    ),
)
