"""Tests of the parts of sweeps: space, statistics over seeds, pruning, data digest, the winner's file."""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError
from scipy import stats

from lookalike.domain.domain import Domain
from lookalike.families.build import build, check_settings, for_domain
from lookalike.sweeps.check import checked
from lookalike.sweeps.keys import key_of, relevant
from lookalike.sweeps.objectives import OBJECTIVES, check_available, objectives
from lookalike.sweeps.places import Sweep, short_names, title
from lookalike.sweeps.promote import changed, difference
from lookalike.sweeps.pruning import Pruned, Pruning
from lookalike.sweeps.remembered import Remembered
from lookalike.sweeps.space import Space, compose, plain_of, read_space
from lookalike.sweeps.study import MIN_OTHERS, WARM_UP, open_study, queue_again
from lookalike.sweeps.summary import LEVEL, estimate, front, is_separate, verdict
from lookalike.workspace.configuration import CONF, choices
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import replace_json

# The space


@pytest.fixture
def space() -> Any:
    """`space(*overrides)`: the space of a command and its configurations."""

    def read(*overrides: str) -> tuple[Space, list[dict[str, Any]]]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="sweep"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            found = read_space(hydra, list(overrides))
            return found, [plain_of(compose(hydra, combination)) for combination in found.combinations()]

    return read


def test_a_space_is_every_choice_of_groups_and_every_value_of_what_else_is_searched(space: Any) -> None:
    found, plains = space("data=heights", "model=vae,flow", "optimizer.lr=1e-3,3e-4", "seed=range(0,3)", "budget=smoke")
    assert [parameter.key for parameter in found.parameters] == ["model", "optimizer.lr", "seed"]
    assert [plain["model"]["_target_"].split(".")[-2] for plain in plains] == ["vae", "flow"]
    variants = list(found.variants(plains[0]))
    assert [override for override, _ in variants] == ["optimizer.lr=0.0003", "seed=1", "seed=2"]
    assert [variant["seed"] for _, variant in variants] == [0, 1, 2]
    assert plains[0]["seed"] == 0
    assert plains[0]["split"] == "validation"


@pytest.mark.parametrize("family", choices("search"))
@pytest.mark.parametrize("shape", [(1, 12, 12), (2,)])
def test_every_family_accepts_every_value_of_its_search_space(
    space: Any, family: str, shape: tuple[int, ...], make_domain: Callable[..., Domain]
) -> None:
    found, (plain,) = space("hydra/sweeper=optuna", f"+search={family}")
    domain = make_domain(*shape, levels=16)
    assert plain["model"]["_target_"].split(".")[-2] == family
    assert found.parameters
    wanted = objectives(plain["objective"])
    assert (plain["likelihood"] is not None) or wanted[0].needs != "likelihood"
    assert not plain["sweep"]["prune"] or plain["likelihood"] is not None
    for _, variant in [("", plain), *found.variants(plain)]:
        config = for_domain(checked(variant), domain)
        check_settings(build(config.model, domain, seed=0), config)


def test_every_trained_family_has_a_search_space() -> None:
    trained = {
        name for name in choices("model") if yaml.safe_load((CONF / f"model/{name}.yaml").read_text())["optimizer"]
    }
    assert set(choices("search")) == trained


@pytest.mark.parametrize("family", choices("search"))
def test_every_range_of_a_search_space_is_explained(family: str) -> None:
    text = (CONF / "search" / f"{family}.yaml").read_text()
    lines = {line.partition(":")[0].strip(): line for line in text.splitlines()}
    for key in yaml.safe_load(text)["hydra"]["sweeper"]["params"]:
        assert lines[key].partition(" # ")[2], key


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.nothing=1,2", "unknown key 'optimizer.nothing': 'optimizer' has lr"),
        ("optimizer.lr=interval(2,1)", "empty"),
        ("optimizer.lr=interval(1,1)", "empty"),
        ("optimizer.lr=tag(log,interval(0,1))", "above 0"),
        ("optimizer.lr=range(3,1)", "empty"),
        ("optimizer.lr=range(1,3,0)", "step of 0"),
        ("model=vae,nope", "unknown model 'nope': choose from"),
        ("data=nope", "unknown data 'nope'"),
        ("+search=nope", "unknown search 'nope'"),
        ("optimizer.lr=choice()", "optimizer.lr"),
        ("optimizer.lr=1,2 hydra/launcher=joblib hydra.launcher.n_jobs=2 sed=0,1", "unknown key 'sed': there are"),
        ("hydra/sweeper=optuna hydra.sweeper.n_trials=2 optimizer.lrr=1", "unknown key 'optimizer.lrr'"),
        ("sampling.steps=3", "unknown key 'sampling.steps': model=vae has no settings of sampling"),
        ("optimizer.lrr=1,2", "'optimizer' has .*; did you mean 'lr'\\?$"),
        ("sed=0,1", "there are .*; did you mean 'seed'\\?$"),
        ("model=vea", "choose from .*; did you mean 'vae'\\?$"),
        ("paths.data=a=b", "paths.data: Hydra cannot read the value a=b; if it is text, put it in quotes"),
        ("hydra/launcher=nope", "unknown hydra/launcher .nope.: choose one of basic, joblib"),
    ],
)
def test_a_malformed_space_is_refused(space: Any, override: str, says: str) -> None:
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        space("model=vae", *override.split())


def test_places_views_and_settings_of_the_sweep_do_not_identify_a_trial() -> None:
    overrides = ["model=vae", "seed=1", "sweep.folder=/x", "objective=recall", "tracking=none", "hydra.sweep.dir=/x"]
    assert relevant(overrides) == ["model=vae", "seed=1"]
    assert key_of(["seed=1", "model=vae"], "base") == key_of(["model=vae", "seed=1"], "base")
    assert len({key_of(["a=1"], "b"), key_of(["a=2"], "b"), key_of(["a=1"], "c")}) == 3
    assert title(["model=vae", "optimizer.lr=1", "seed=3"], ["optimizer.lr", "seed"]) == "lr=1 seed=3"
    assert title(["a.lr=1", "b.lr=2"], ["a.lr", "b.lr"]) == "a.lr=1 b.lr=2"
    assert short_names(["model", "a.seed", "a.lr"]) == {"model": "model", "a.seed": "a.seed", "a.lr": "lr"}


# Objectives


def test_an_objective_that_a_model_or_data_set_does_not_have_is_refused() -> None:
    common: dict[str, Any] = {"model": "gan", "data": "heights", "kind": "table", "has_labels": True}
    with pytest.raises(
        UserError, match=r"gan has no likelihood. Compare it by its samples, with objective=wasserstein_1"
    ):
        check_available(OBJECTIVES["bits_per_dim"], has_likelihood=False, **common)
    with pytest.raises(UserError, match="it needs data of kind image, and heights is of kind table") as error:
        check_available(OBJECTIVES["frechet_distance"], has_likelihood=False, **common)
    assert "bits_per_dim" not in str(error.value)
    assert "class_distance" in str(error.value)
    with pytest.raises(UserError, match="Choose from bits_per_dim"):
        check_available(OBJECTIVES["frechet_distance"], has_likelihood=True, **common)
    for name in ("wasserstein_1", "class_distance"):
        check_available(OBJECTIVES[name], has_likelihood=False, **common)
    with pytest.raises(UserError, match="it needs data with labels, and heights has no labels"):
        check_available(OBJECTIVES["class_distance"], has_likelihood=False, **common | {"has_labels": False})
    for wrong in ("nothing", [], ["recall", "recall"], ["recall", "nothing"], None):
        with pytest.raises(UserError, match="objective="):
            objectives(wrong)


# Statistics over seeds


def row(
    name: str, values: list[float], errors: list[float | None] | None = None, **more: list[float]
) -> dict[str, Any]:
    """Return a row of a summary, as `configurations` makes it."""
    scores = {"recall" if key == "other" else key: values for key, values in {"bits_per_dim": values, **more}.items()}
    found = {key: estimate(v, errors or [None] * len(v)) for key, v in scores.items()}
    return {"title": name, "data": "heights", "trials": [name], "scores": {k: vars(e) for k, e in found.items()}}


def test_two_configurations_differ_if_welch_s_test_says_so() -> None:
    rng = np.random.default_rng(0)
    agreed = 0
    for _ in range(200):
        a, b = rng.normal(0, 1, 4).tolist(), rng.normal(1.5, 2, 3).tolist()
        p = stats.ttest_ind(a, b, equal_var=False).pvalue
        assert is_separate(estimate(a, [None]), estimate(b, [None]), level=0.95) == (p < 0.05)
        agreed += p < 0.05
    assert 10 < agreed < 190  # both answers came up


def test_an_estimate_over_seeds_has_their_mean_deviation_and_student_s_interval() -> None:
    values = [1.0, 1.5, 3.0]
    found = estimate(values, [None] * 3)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert found.half_width() == pytest.approx((high - low) / 2)
    alone = estimate([2.0], [0.5])
    assert alone.deviation is None
    assert alone.half_width() == pytest.approx(1.959964 * 0.5)
    assert estimate([2.0], [None]).half_width() is None


def test_a_best_configuration_within_error_does_not_win() -> None:
    objective = OBJECTIVES["bits_per_dim"]
    clear = verdict([row("a", [1.0, 1.01, 0.99]), row("b", [2.0, 2.01, 1.99])], objective)["verdict"]["heights"]
    assert clear["winner"] == "a"
    close = verdict([row("a", [1.0, 1.5, 0.5]), row("b", [1.1, 1.6, 0.7])], objective)["verdict"]["heights"]
    assert (close["best"], close["winner"], close["within_error"]) == ("a", None, ["b"])
    single = verdict([row("a", [1.0], [0.1]), row("b", [1.1], [0.1])], objective)["verdict"]["heights"]
    assert single["winner"] is None
    unknown = verdict([row("a", [1.0], [None]), row("b", [9.0], [None])], objective)["verdict"]["heights"]
    assert unknown["winner"] is None


def test_the_best_of_many_equal_configurations_seldom_wins() -> None:
    rng = np.random.default_rng(1)
    objective = OBJECTIVES["bits_per_dim"]
    crowned = 0
    for _ in range(100):
        rows = sorted(
            (row(str(i), rng.normal(0, 1, 4).tolist()) for i in range(6)),
            key=lambda r: r["scores"]["bits_per_dim"]["mean"],
        )
        crowned += verdict(rows, objective)["verdict"]["heights"]["winner"] is not None
    assert crowned <= 100 * (1 - LEVEL) + 5


def test_the_pareto_front_is_not_dominated() -> None:
    wanted = [OBJECTIVES["bits_per_dim"], OBJECTIVES["recall"]]
    rows = [
        row("a", [1.0], other=[0.1]),
        row("b", [2.0], other=[0.9]),
        row("c", [2.5], other=[0.8]),
        row("d", [1.0], other=[0.05]),
    ]
    assert [one["title"] for one in front(rows, wanted)] == ["a", "b"]


# The search


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    found = Sweep(tmp_path / "sweep")
    about = {"base": "0", "fixed": [], "objective": ["bits_per_dim"], "sweeper": {"pruner": "median"}, "session": "s"}
    replace_json(found.about, about)
    return found


def test_a_curve_that_is_worse_than_the_median_of_others_is_stopped(sweep: Sweep) -> None:
    study = open_study(sweep)
    for i in range(MIN_OTHERS):
        trial = study.ask()
        for step in range(1, 11):
            trial.report(1.0 / step + 0.01 * i, step)
        study.tell(trial, 1.0)

    def view(asked: optuna.Trial) -> Pruning:
        folder = sweep.trial(f"{asked.number}")
        folder.folder.mkdir(parents=True)
        return Pruning(sweep, folder, {"prune": "validation/loss", "trial": asked.number})

    good = view(study.ask())
    for step in range(10, 110, 10):
        good.metrics({"train/loss": 9.0}, step)
        good.metrics({"validation/loss": 0.9 / (step / 10)}, step)
    bad, reported_at = view(study.ask()), []
    with pytest.raises(Pruned, match=f"at check {WARM_UP}, validation/loss 5 is worse than"):
        for step in range(10, 110, 10):
            reported_at.append(step)
            bad.metrics({"validation/loss": 5.0}, step)
    assert len(reported_at) == WARM_UP
    astray = view(study.ask())
    with pytest.raises(Pruned):
        for step in range(10, 110, 10):
            astray.metrics({"validation/loss": math.nan}, step)


def test_curves_of_a_killed_training_are_reported_again_and_continued(sweep: Sweep) -> None:
    study = open_study(sweep)
    trial, folder = study.ask(), sweep.trial("x")
    folder.folder.mkdir(parents=True)
    asked = {"prune": "validation/loss", "trial": trial.number}
    first = Pruning(sweep, folder, asked)
    first.metrics({"validation/loss": 3.0}, 10)
    first.metrics({"validation/loss": 2.0}, 20)
    first.close()
    with folder.curves.open("a") as file:
        file.write('{"step": 30, "mill')  # a line that the kill cut
    queue_again(study)
    again = study.ask()
    second = Pruning(sweep, folder, asked | {"trial": again.number})
    second.metrics({"validation/loss": 2.0}, 20)
    second.metrics({"validation/loss": 1.0}, 30)
    second.close()
    assert study.trials[again.number].intermediate_values == {1: 3.0, 2: 2.0, 3: 1.0}


def test_trials_that_failed_or_were_killed_are_queued_once(sweep: Sweep) -> None:
    study = open_study(sweep)
    space: dict[str, Any] = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
    done, failed, killed = (study.ask(space) for _ in range(3))
    study.tell(done, 1.0)
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    for _ in range(2):
        queue_again(study)
    waiting = study.get_trials(states=(optuna.trial.TrialState.WAITING,))
    assert len(waiting) == 2
    assert {study.ask(space).params["x"] for _ in range(2)} == {failed.params["x"], killed.params["x"]}


# Trials that die


def test_a_trial_that_dies_again_and_again_is_launched_alone_and_then_given_up(sweep: Sweep) -> None:
    def state(name: str) -> dict[str, Any]:
        found = sweep.state(name)
        assert found is not None
        return found

    def begin(*names: str) -> None:
        for name in names:
            old = sweep.state(name) or {"fingerprint": name, "key": key_of([f"seed={name}"], "0"), "first": 0.0}
            sweep.put(old | {"state": "running", "session": "s"})

    jobs = [["seed=a"], ["seed=b"], ["seed=c"]]
    for deaths in (1, 2):
        begin("a", "b")  # a takes all the memory, and b runs beside it
        died = sweep.mark_killed()
        sweep.give_up(died)
        assert {(one["fingerprint"], one["deaths"]) for one in died} == {("a", deaths), ("b", deaths)}
    assert sweep.mark_killed() == []
    assert {state(name)["state"] for name in "ab"} == {"killed"}
    assert Remembered(str(sweep.folder)).batches(jobs) == [[["seed=c"]], [["seed=a"]], [["seed=b"]]]
    assert Remembered(str(sweep.folder)).batches([]) == []
    begin("a")
    sweep.give_up(sweep.mark_killed())
    assert state("a")["state"] == "failed"
    assert state("a")["given_up"] == "s"
    assert "its process was killed 3 times" in state("a")["error"]
    assert state("b")["state"] == "killed"


# Launchers


def test_the_slurm_launcher_accepts_its_settings() -> None:
    plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    settings = yaml.safe_load((CONF / "hydra" / "launcher" / "submitit_slurm.yaml").read_text())
    schema = OmegaConf.structured(plugin.SlurmQueueConf)
    OmegaConf.merge(schema, settings)  # refuses unknown keys and wrong types
    with pytest.raises(ConfigKeyError):
        OmegaConf.merge(schema, settings | {"partitions": "x"})


# GPUs


def test_every_process_takes_a_gpu_of_its_own_until_it_ends(tmp_path: Path) -> None:
    held = "import sys; from pathlib import Path; from lookalike.sweeps.devices import claim; "
    ask = "print(claim(Path(sys.argv[1]), count=2), flush=True); sys.stdin.read()"

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", held + ask, str(tmp_path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    processes = [start() for _ in range(3)]
    found = [process.stdout.readline().strip() for process in processes if process.stdout]
    assert sorted(found) == ["0", "1", "None"]
    first = processes[found.index("0")]
    first.communicate()
    last = start()
    assert last.communicate()[0].strip() == "0"
    for process in processes:
        process.communicate()


# A winner's file


@pytest.mark.parametrize("model", choices("model"))
def test_a_file_keeps_its_comments_and_all_values_but_the_promoted_ones(model: str) -> None:
    text = (CONF / "model" / f"{model}.yaml").read_text()
    assert changed(text, {}) == text
    if not yaml.safe_load(text)["optimizer"]:
        return
    new = changed(text, {"optimizer": {"lr": 3.21e-05, "clip": 2.0}})
    assert {line.partition("#")[2] for line in text.splitlines()} == {
        line.partition("#")[2] for line in new.splitlines()
    }
    added = set(new.splitlines()) - set(text.splitlines())
    assert {line.partition("#")[0].strip() for line in added} == {"lr: 3.21e-05", "clip: 2.0"}
    # DVC and Hydra read a float in either notation.
    assert OmegaConf.create(new).optimizer.lr == 3.21e-05


def test_only_what_differs_from_the_pipeline_is_promoted() -> None:
    now = {"model": {"depth": 2, "sizes": {"table": {"hidden": [64, 64]}}}, "optimizer": {"lr": 1e-3, "clip": 1.0}}
    wanted = {"model": {"depth": 2, "sizes": {"table": {"hidden": [8]}}}, "optimizer": {"lr": 2e-3, "clip": 1.0}}
    assert difference(now, wanted) == {"model": {"sizes": {"table": {"hidden": [8]}}}, "optimizer": {"lr": 2e-3}}
    assert difference(now, now) == {}


def test_lists_of_a_file_stay_in_one_line() -> None:
    text = (CONF / "model" / "vae.yaml").read_text()
    new = changed(text, {"model": {"sizes": {"image": {"widths": [24, 48]}}}})
    (line,) = set(new.splitlines()) - set(text.splitlines())
    assert line.strip().startswith("widths: [24, 48]")
