import pytest

from beyond_ce.reporting import paper
from beyond_ce.reporting.paper import Paper


@pytest.fixture
def lookup(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "PAPER_DIR", tmp_path)

    def make(text):
        (tmp_path / "paper.csv").write_text(text)
        return Paper("paper.csv")

    return make


def test_a_column_per_split_and_loss(lookup):
    found = lookup("model,interpolation_CE,extrapolation_CE,extrapolation_NTL\nGPT,0.50,1,0.9\n")
    key = {"model": "GPT", "loss": "CE"}
    assert found.text(key, "interpolate", "{split}_{loss}") == "0.50"
    assert found.value(key, "extrapolate", "{split}_{loss}") == 1
    assert found.value({**key, "loss": "NTL"}, "extrapolate", "{split}_{loss}") == 0.9
    assert found.text({**key, "loss": "NTL"}, "interpolate", "{split}_{loss}") == ""
    assert found.text(key, "interpolate", "{split}_{loss}_std") == ""


def test_a_line_per_split_or_per_metric(lookup):
    lines = lookup("split,loss,MAE\ninterpolate,CE,2.10\nextrapolate,CE,9\n")
    assert lines.text({"loss": "CE"}, "interpolate", "MAE") == "2.10"
    assert lines.text({"loss": "CE"}, "other", "MAE") == ""
    long = lookup("experiment,loss,metric,value\njokes,CE,RMSE,2\njokes,CE,Pearson,\n")
    key = {"experiment": "jokes", "loss": "CE"}
    assert long.value(key, "test", "RMSE") == 2
    assert long.text(key, "test", "Pearson") == ""
    assert long.text({**key, "split": "dev"}, "test", "RMSE") == ""


def test_what_names_no_line_or_several_is_empty(lookup):
    found = lookup("loss,lambda,MAE\nNTL,0.3,1\nNTL,0.8,2\n")
    assert found.text({"loss": "NTL"}, "test", "MAE") == ""
    assert found.text({}, "test", "MAE") == ""
    assert found.text({"loss": "NTL", "lambda": 0.3}, "test", None) == ""
