import pytest

from dro import data, recipes
from dro.errors import DataError


def test_the_papers_recipe_is_the_papers():
    paper = recipes.config("paper")
    assert (paper.steps, paper.batch, paper.lr, paper.schedule) == (160, 50, 1e-3, "constant")
    assert (paper.target, paper.harmless_weight, paper.harmfulness_weight) == ("difference", 1.0, 0.01)
    assert (paper.residual_weight, paper.weight_decay, paper.clip, paper.seed) == (0.001, 0.01, 1.0, 42)
    assert (paper.space, paper.queries, paper.choose) == ("paper", "anchors", "last")


def test_changes_are_laid_over_a_recipe():
    assert recipes.config("best", steps=3).steps == 3
    assert recipes.config("best", steps=3).choose == recipes.RECIPES["best"].choose


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("worst", {}, "There is no recipe 'worst'. Use best, paper, quick."),
        ("best", {"steps": 0}, "These settings cannot be: steps"),
        ("best", {"colour": "red"}, "colour"),
        ("paper", {"residual_on": "anchors"}, "needs every starting state"),
    ],
)
def test_what_cannot_be_is_named(recipe, changes, message):
    with pytest.raises(DataError) as error:
        recipes.config(recipe, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("queries", ["test", "anchors+validation", "borderline", "anchors+"])
def test_what_is_there_to_measure_is_not_trained_on(queries):
    with pytest.raises(DataError, match="cannot train on"):
        recipes.training_set(recipes.config("best", queries=queries))


def test_training_sets_are_joined_anchors_first():
    both = recipes.training_set(recipes.config("best"))
    anchors, train = data.bundled("anchors"), data.bundled("train")
    assert both.texts == [*anchors.texts, *train.texts] and both.name == "anchors+train"
    held_out = {*data.bundled("test").texts, *data.bundled("validation").texts}
    assert not held_out & set(both.texts)
