"""`ggf list-models` and `ggf list-solvers`: readable at any width, families, filters."""

import json
import re

import pytest

from command import ggf
from ggf_cli.checkpoints.documents import ModelEntry
from ggf_cli.checkpoints.families import FAMILIES, family_of
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.cli.tables import Column, fit
from ggf_cli.solvers.catalog import flag, read_catalog
from manifests import GOOD_MANIFEST


def listed(*arguments):
    done = ggf(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def words(text):
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
@pytest.mark.parametrize("arguments", [["list-models"], ["list-solvers"]], ids=" ".join)
def test_no_line_is_too_long_and_nothing_is_cut_in_silence(arguments, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = listed(*arguments)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    titles = {
        "list-models": "name, data set, SDE, shape, parameters, size, source, here, licence, what",
        "list-solvers": "name, solves, step size, evaluations a step, NFE, what",
    }[arguments[0]].split(", ")
    header = re.split(r"\s{2,}", text.splitlines()[0].strip())
    left_out = re.search(r"not shown in \d+\s+columns: (.*?) \(", text.replace("\n", " "))
    gone = left_out[1].split(", ") if left_out else []
    assert sorted([*(" ".join(header)).split(), *" ".join(gone).split()]) == sorted(
        " ".join(titles).split()
    )


def test_at_80_columns_every_model_has_licence_and_whether_it_is_here(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = listed("list-models").splitlines()
    for name, entry in read_manifest().items():
        (at,) = [i for i, line in enumerate(lines) if line.split()[:1] == [name]]
        line = lines[at]
        # A long licence continues on the next line.
        found = re.search(r"  (?:yes|no)   +(.*)$", line)
        assert f"{found[1]} {lines[at + 1].strip()} ".startswith(f"{entry.license} ")
        assert entry.dataset in line
        assert "×".join(map(str, entry.shape)) in line


def test_at_80_columns_every_solver_has_its_whole_summary(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    start = ggf("list-solvers").stdout.index
    text = listed("list-solvers")
    column = text.splitlines()[0].index("what")
    whats = "".join(line[column:] for line in text.splitlines()[1:])
    for name, about in read_catalog().items():
        assert start(name) >= 0
        assert words(about.summary) in words(whats)


@pytest.mark.parametrize("name", read_catalog())
def test_at_80_columns_every_option_is_readable(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = listed("list-solvers", name)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for option in read_catalog()[name].options:
        assert any(line.split()[:1] == [flag(option)] for line in text.splitlines())


def test_models_are_grouped_by_family():
    text = listed("list-models")
    documents = json.loads(listed("list-models", "--json"))
    assert [d["name"] for d in documents] == list(read_manifest())
    headings = re.findall(r"^([a-z-]+): .*$", text, re.MULTILINE)
    assert headings == [name for name in FAMILIES if name in {d["family"] for d in documents}]
    parts = re.split(r"^[a-z-]+: .*$", text, flags=re.MULTILINE)[1:]
    for heading, part in zip(headings, parts, strict=True):
        wanted = [d["name"] for d in documents if d["family"] == heading]
        # A long licence continues on the next line, which starts with blanks.
        names = [line.split()[0] for line in part.splitlines() if line.strip() and line[0] != " "]
        assert names[: len(wanted)] == wanted


def test_family_and_here_filter_the_list_and_the_json():
    documents = json.loads(listed("list-models", "--json"))
    exact = json.loads(listed("list-models", "--family", "exact", "--json"))
    assert exact == [d for d in documents if d["family"] == "exact"]
    text = listed("list-models", "--family", "exact")
    assert "fashion-mixture-ve" in text
    assert "fashion-vp" not in text
    here = json.loads(listed("list-models", "--here", "--json"))
    assert here == [d for d in documents if d["here"]]
    assert "cifar10-vp" not in listed("list-models", "--here")


def test_an_unknown_family_is_refused_with_the_names():
    done = ggf("list-models", "--family", "exakt")
    assert done.exit_code == 2
    assert "did you mean 'exact'?" in done.stderr
    assert "score-sde" in done.stderr


def test_a_family_without_a_local_model(monkeypatch, tmp_path):
    monkeypatch.setenv("GGF_HOME", str(tmp_path))
    done = ggf("list-models", "--family", "score-sde", "--here")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "none of these models is on this machine" in done.stderr
    assert json.loads(listed("list-models", "--family", "score-sde", "--here", "--json")) == []


def test_a_registry_may_have_families_of_its_own(monkeypatch, tmp_path):
    path = tmp_path / "checkpoints.toml"
    second = GOOD_MANIFEST.replace("[one]", '[two]\nfamily = "ours"')
    path.write_text(GOOD_MANIFEST + second)
    monkeypatch.setenv("GGF_MANIFEST", str(path))
    documents = json.loads(listed("list-models", "--json"))
    assert {d["name"]: d["family"] for d in documents} == {"one": "embedded", "two": "ours"}
    assert re.search("^ours$", listed("list-models"), re.MULTILINE)
    path.write_text(path.read_text().replace('"ours"', '"Ours!"'))
    assert "'family' in [two] is 'Ours!'" in ggf("list-models").stderr


@pytest.mark.parametrize(
    ("source", "parameters", "family"),
    [
        ("embedded:a.safetensors", 3, "embedded"),
        ("embedded:a.safetensors", 0, "exact"),
        ("hub:a/b", 3, "hub"),
        ("drive:a", 3, "score-sde"),
        ("web:example.org/a", 3, "web"),
    ],
)
def test_without_a_family_the_source_gives_it(source, parameters, family):
    entry = ModelEntry(
        name="a",
        summary="",
        dataset="",
        sde={},
        shape=(1,),
        parameters=parameters,
        source=source,
        sha256="",
        license="",
    )
    assert family_of(entry) == family


def test_columns_are_left_out_by_rank():
    a, b, c = (
        Column(title="a", cells=["x" * 10]),
        Column(title="b", cells=["x" * 10], rank=2),
        Column(title="c", cells=["x" * 50], rank=1, wraps=10),
    )
    assert fit([a, b, c], 34) == ([a, b, c], [])
    assert fit([a, b, c], 33) == ([a, c], [b])
    assert fit([a, b, c], 5) == ([a], [b, c])


def test_a_long_cell_is_continued_on_the_next_line(monkeypatch, tmp_path):
    path = tmp_path / "checkpoints.toml"
    name = "n" * 100
    path.write_text(GOOD_MANIFEST.replace("[one]", f"[{name}]").replace('"MIT"', '"MIT [x]…"'))
    monkeypatch.setenv("GGF_MANIFEST", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    text = listed("list-models")
    assert sum(line.split(" ")[0].count("n") for line in text.splitlines()[3:7]) == 100
    assert "MIT [x]…" in text
