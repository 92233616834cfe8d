"""Hydra's sweepers for `python pipelines/sweep.py`. Every stage's Hydra imports this, so what is heavy comes late."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class GridSweeper(BasicSweeper):
    """Every combination of values. Trials that are done are told again from their records and not launched.

    Hydra's own sweeper composes every job twice: before the launcher does, to see whether it can. The space was
    checked already, so this one doesn't.
    """

    def sweep(self, arguments: list[str]) -> Any:
        from lookalike.sweeps.remembered import Remembered

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, None)
        remembered = Remembered(self.config.sweep.folder)
        missing = [job for job in jobs if not remembered.tell(job)]
        launched = 0
        for together in remembered.batches(missing):
            for batch in self.split_overrides_to_chunks(together, self.max_batch_size):
                self.launcher.launch(batch, initial_job_idx=launched)
                launched += len(batch)


class OptunaSweeper(BasicSweeper):
    """Asks an Optuna study for trials, a batch at a time, and tells it what came of them."""

    def __init__(self, *, params: dict[str, str] | None, **settings: Any) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.settings = settings

    def sweep(self, arguments: list[str]) -> Any:
        from lookalike.sweeps.study import search

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        search(overrides, folder=self.config.sweep.folder, launcher=self.launcher, **self.settings)
