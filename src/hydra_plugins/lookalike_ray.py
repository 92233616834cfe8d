"""Hydra's launcher on Ray. Hydra imports this in every stage, so Ray is imported late."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn


class RayLauncher(BasicLauncher):
    """Run one task per trial. A task whose worker dies is lost alone; the same command runs it again."""

    def __init__(self, *, address: str | None, num_cpus: float, num_gpus: float) -> None:
        super().__init__()
        self.address, self.resources = address, {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from lookalike.sweeps.ray_jobs import connect, launch

        connect(self.address)
        return launch(
            [list(overrides) for overrides in job_overrides],
            first=initial_job_idx,
            job=(self.hydra_context, self.config, self.task_function),
            resources=self.resources,
        )
