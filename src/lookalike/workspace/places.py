"""The folders that stages read and write."""

from lookalike.workspace.configuration import Config


class Cell:
    """The folders of one data set and of one cell."""

    def __init__(self, config: Config) -> None:
        data = config.path("artifacts") / config.data.name
        self.prepared = data / "prepared"
        self.summary = data / "summary"
        self.features = data / "features"
        self.real = data / "real"
        self.train, self.sample, self.evaluate = (config.cell / stage for stage in ("train", "sample", "evaluate"))
