"""The genetic algorithm alone, as an Optuna sampler, and against the samplers it is meant to beat."""

import numpy as np
import optuna
import pytest
from toy import CHOICES, MIDDLE, SMALL, UNORDERED, Toy, front_points

from codesign.search import exhaustive, joint, optuna_io, pareto, samplers
from codesign.search.ga import GeneticAlgorithm, crowding, excess
from codesign.search.loop import Hooks, Settings

MAXIMISE = (False, False, True)


def engine(toy, **options):
    ordered = [v.ordered for v in toy.variables]
    return GeneticAlgorithm(toy.sizes, ordered, MAXIMISE, canonical=toy.canonical, valid=toy.valid, **options)


def told(toy, index):
    batch = toy.evaluate(index)
    return index, np.where(np.isnan(batch.objectives), 1e9, batch.objectives), batch.violations


def test_proposals_are_new_valid_and_canonical_until_the_space_is_empty():
    toy = Toy(SMALL, layouts_inside=True)
    ga, proposed = engine(toy, seed=0), []
    while len(index := ga.ask(ga.n_batch)[0]):
        assert (toy.canonical(index) == index).all() and toy.valid(index).all()
        proposed.append(index)
        ga.tell(*told(toy, index))
    proposed = np.concatenate(proposed)
    assert len(proposed) == len(np.unique(proposed, axis=0)) == toy.n_designs


def test_sequence_does_not_depend_on_how_many_are_asked_for():
    toy, sequences = Toy(MIDDLE), []
    for n in (1, 7, 1000):
        ga, rows = engine(toy, seed=5), []
        while len(rows) < 300:
            index, numbers = ga.ask(n)
            assert numbers.tolist() == list(range(len(rows), len(rows) + len(index)))
            rows += index.tolist()
            ga.tell(*told(toy, index))
        sequences.append(rows[:300])
    assert sequences[0] == sequences[1] == sequences[2]


def test_children_move_ordered_variables_by_single_steps_more_often():
    ga = GeneticAlgorithm([11, 11], [True, False], [False, False], seed=0)
    ga.tell(np.full((60, 2), 5), np.zeros((60, 2)), np.zeros((60, 1)))
    ga._select()
    moved = np.abs(ga._children(20_000) - 5)
    steps = [(moved[:, axis] == 1).sum() / (moved[:, axis] > 0).sum() for axis in (0, 1)]
    assert steps[0] == pytest.approx(0.6 + 0.4 * 0.2, abs=0.03) and steps[1] == pytest.approx(0.2, abs=0.03)


def test_population_grows_with_the_evaluations():
    ga = GeneticAlgorithm([10] * 8, [True] * 8, [False], seed=0)
    assert ga.population_size == 50
    ga._told = set(range(30_000))
    assert ga.population_size == 1000
    ga._told = range(10**7)
    assert ga.population_size == 5000


def test_selection_prefers_feasible_then_front_then_sparse():
    ga = GeneticAlgorithm([100], [True], [False, False], seed=0, least=4, most=4)
    values = np.array([[0, 4], [1, 1], [1.1, 0.9], [4, 0], [5, 5], [0, 0], [0, 0]])
    broken = np.array([[0.0], [0], [-1], [0], [0], [3], [1]])
    ga.tell(np.arange(7)[:, None], values, broken)
    ga._select()
    assert ga._serial.tolist() == [0, 3, 1, 2]
    ga._least = ga._most = 7
    ga.tell(np.empty((0, 1), int), np.empty((0, 2)), np.empty((0, 1)))
    assert excess(broken)[[5, 6]].tolist() == [0.75, 0.5]


def test_crowding_by_hand():
    points = np.array([[0, 4.0], [1, 2], [4, 0], [3, 1], [9, 9]])
    assert crowding(points, np.array([0, 0, 0, 0, 1])).tolist() == [np.inf, 3 + 3, np.inf, 3 + 2, np.inf]


def test_as_an_optuna_sampler_it_proposes_what_the_engine_proposes(tmp_path):
    direct = joint.run(Toy(SMALL), Settings("ga", trials=200, seed=2))
    stored = joint.run(Toy(SMALL), Settings("ga", trials=200, seed=2), Hooks(storage=f"journal:{tmp_path / 'study.log'}"))
    assert stored.designs.index.tolist() == direct.designs.index.tolist()
    assert front_points(Toy(SMALL), stored).tolist() == front_points(Toy(SMALL), direct).tolist()


def test_drives_a_plain_optuna_study():
    toy = Toy(SMALL)
    sampler, _ = samplers.create("ga", toy, seed=0)
    study = optuna.create_study(directions=[o.direction for o in toy.objectives], sampler=sampler)

    def objective(trial):
        row = [
            trial.suggest_categorical(v.name, tuple(range(len(v.choices)))) if v.name in UNORDERED
            else trial.suggest_int(v.name, 0, len(v.choices) - 1)
            for v in toy.variables
        ]  # fmt: skip
        _, values, broken = told(toy, np.array([row]))
        for name, amount in zip(toy.constraint_names, broken[0], strict=True):
            trial.set_constraint(name, float(amount))
        return values[0].tolist()

    optuna_io.quiet()
    study.optimize(objective, n_trials=150)
    rows = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(rows)) == 150 and study.best_trials
    again, _ = samplers.create("ga", toy, seed=1)  # joins a study that has trials: learns from them, repeats none
    study.sampler = again
    study.optimize(objective, n_trials=50)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 200


def test_beats_nsga2_and_random_of_optuna():
    toy = Toy(MIDDLE)
    front = front_points(toy, exhaustive.run(toy))
    scaling = pareto.scaling(front, MAXIMISE)
    volume = pareto.hypervolume(front, scaling)

    def share(sampler, trials, seed):
        outcome = joint.run(toy, Settings(sampler, trials=trials, seed=seed), Hooks(reference=scaling))
        return outcome.history[-1][2] / volume, outcome.seconds

    ours = [share("ga", 10_000, seed) for seed in range(3)]
    theirs = [share("nsga2", 700, seed) for seed in range(2)]
    blind = [share("random", 700, seed) for seed in range(2)]
    assert min(ours)[0] > max(theirs)[0] > max(blind)[0]
    assert np.median([seconds for _, seconds in ours]) < np.median([seconds for _, seconds in theirs])


def test_the_full_toy_to_98_percent():
    """No ground truth here: 62 million designs. The hypervolume must agree between seeds and not rise with
    more trials.
    """
    toy = Toy(CHOICES)
    toy.n_designs = None
    best = joint.run(toy, Settings(trials=100_000, seed=9))
    scaling = pareto.scaling(front_points(toy, best), MAXIMISE)
    volume = pareto.hypervolume(front_points(toy, best), scaling)
    shares = [
        pareto.hypervolume(front_points(toy, joint.run(toy, Settings(trials=30_000, seed=seed))), scaling) / volume for seed in range(3)
    ]
    assert min(shares) > 0.98 and max(shares) < 1.005
