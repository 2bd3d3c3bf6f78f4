"""Section plans: read, checked, related keys, and the ready ones."""

from __future__ import annotations

import pytest

from mlxgen.compose.plan import Plan, Section, read_plan, ready_plans, related_key, simple_plan
from mlxgen.music.prompt import Conditioning
from mlxgen.music.theory import Key

D_MAJOR, D_MINOR = Key(2, "major"), Key(2, "minor")


def written(tmp_path, text: str):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["sonata-movement", "fugue", "chorale-prelude", "minuet-and-trio"])
def test_ready_plans_begin_and_end_at_home_and_close(name):
    plan = read_plan(name)
    for home in (D_MAJOR, D_MINOR):
        assert plan.sections[0].key_from(home) == home
        assert plan.sections[-1].key_from(home) == home
    last = plan.sections[-1]
    named = {section.name: section for section in plan.sections}
    assert (named[last.repeat] if last.repeat else last).cadence == "full"
    assert any(section.recall or section.repeat for section in plan.sections)
    for section in plan.sections:
        section.conditioning(Conditioning(form=plan.defaults["form"]))


def test_every_ready_plan_is_tested():
    assert set(ready_plans()) == {"sonata-movement", "fugue", "chorale-prelude", "minuet-and-trio"}


@pytest.mark.parametrize(("relation", "in_major", "in_minor"), [
    ("home", "D major", "D minor"), ("dominant", "A major", "A minor"), ("subdominant", "G major", "G minor"),
    ("relative", "B minor", "F major"), ("parallel", "D minor", "D major"), ("second", "A major", "F major"),
    ("submediant", "B minor", "Bb major"), ("E minor", "E minor", "E minor"),
])
def test_related_keys(relation, in_major, in_minor):
    assert related_key(relation, D_MAJOR).name == in_major
    assert related_key(relation, D_MINOR).name == in_minor


def test_a_section_changes_only_what_it_says(tmp_path):
    plan = read_plan(written(tmp_path, """
        [[section]]
        bars = 4
        [[section]]
        name = "b"
        chunks = 2
        tension = "high"
        temperature = 1.1
        recall = "section 1"
    """))
    base = Conditioning(form="quartet", texture="mixed", harmonic_tension="low")
    first, second = plan.sections
    assert first.conditioning(base) == base
    assert second.conditioning(base) == Conditioning(form="quartet", texture="mixed", harmonic_tension="high")
    assert (second.temperature, second.recall, second.cadence) == (1.1, "section 1", "full")


def test_a_plan_survives_json():
    for name in ready_plans():
        plan = read_plan(name)
        assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(("text", "message"), [
    ("", r"no \[\[section\]\]"),
    ("title = 3 4", "not TOML"),
    ("tempo = 4\n[[section]]\nbars = 1", "unknown tempo"),
    ("[[section]]\nname = 'a'", "exactly one of bars, chunks, repeat"),
    ("[[section]]\nbars = 4\nchunks = 4", "exactly one of bars, chunks, repeat"),
    ("[[section]]\nbars = 0", "bars 0: expected a whole number"),
    ("[[section]]\nbars = 'four'", "bars 'four': expected a whole number"),
    ("[[section]]\nbars = true", "bars True: expected a whole number"),
    ("[[section]]\nbars = 4\ntexure = 'mixed'", "unknown texure"),
    ("[[section]]\nbars = 4\nkey = 'H major'", "key 'H major'"),
    ("[[section]]\nbars = 4\ncadence = 'plagal'", "expected one of full, half, none"),
    ("[[section]]\nbars = 4\ncadence_density = 'dense'", "expected one of low, medium, high"),
    ("[[section]]\nbars = 4\ntemperature = 0", "temperature 0: expected above 0"),
    ("[[section]]\nbars = 4\ntemperature = 'hot'", "temperature 'hot': expected a number"),
    ("[[section]]\nbars = 4\nmin_p = 2", "min_p 2: expected 0 to 1"),
    ("[[section]]\nname = 'a'\nbars = 4\nrecall = 'a'", "earlier sections are nothing yet"),
    ("[[section]]\nname = 'a'\nbars = 4\n[[section]]\nrepeat = 'b'", "repeat 'b': earlier sections are a"),
    ("[[section]]\nname = 'a'\nbars = 4\n[[section]]\nname = 'a'\nbars = 4", "two sections are called 'a'"),
    ("section = 3", r"no \[\[section\]\]"),
])
def test_a_wrong_plan_names_the_file_and_what_was_expected(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(path)
    assert str(path) in str(caught.value)


def test_an_unknown_plan_lists_the_ready_ones():
    with pytest.raises(ValueError, match="sonata-movement"):
        read_plan("rondo")


def test_without_a_plan_there_is_one_section_that_closes():
    assert simple_plan(bars=12).sections == (Section("piece", bars=12, cadence="full"),)
    assert simple_plan(chunks=3).sections == (Section("piece", chunks=3, cadence="full"),)
