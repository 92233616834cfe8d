"""Hydra's sweepers for `lookalike sweep`. Hydra imports this in every stage, so heavy imports come late."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


class Parsing(BasicSweeper):
    """Hydra's own sweeper, which reads overrides; its `sweep` is replaced below."""

    def parse(self, arguments: list[str]) -> list[Override]:
        """Return the overrides of the configuration and of the command line."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return list(parser.parse_overrides([*self._parse_config(), *arguments]))


class GridSweeper(Parsing):
    """Run every combination of values, except those that finished before.

    Hydra's own sweeper composes every job twice, first to see whether it can. The space is checked already, so this
    sweeper does not.
    """

    def sweep(self, arguments: list[str]) -> Any:
        from lookalike.sweeps.remembered import Remembered

        overrides = self.parse(arguments)
        (jobs,) = self.split_arguments(overrides, None)
        remembered = Remembered(self.config.hydra.sweep.dir)
        missing = [job for job in jobs if not remembered.recall(job)]
        launched = 0
        for together in remembered.batches(missing):
            for batch in self.split_overrides_to_chunks(together, self.max_batch_size):
                self.launcher.launch(batch, initial_job_idx=launched)
                launched += len(batch)


class OptunaSweeper(Parsing):
    """Ask an Optuna study for trials, batch by batch, and report their results to it."""

    def __init__(self, *, params: dict[str, str] | None, **settings: Any) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.settings = settings

    def sweep(self, arguments: list[str]) -> Any:
        from lookalike.sweeps.study import search

        overrides = self.parse(arguments)
        search(overrides, folder=self.config.hydra.sweep.dir, launcher=self.launcher, **self.settings)
