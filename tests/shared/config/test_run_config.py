"""Configurations: what stands in `configs/` is valid, and what cannot be meant is refused with its place."""

import json
import tomllib
from pathlib import Path

import pytest

from shared.config.run_config import load_config, parse_config
from shared.config.sections import ClassifierSection
from shared.errors import ConfigError
from shared.strategies.fedadam import FedAdam
from shared.strategies.fedavg import FedAvg
from shared.strategies.fedprox import FedProx
from shared.tasks.receptor_ki67_multitask import MultitaskSection

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
MINIMAL = {"name": "tiny", "data": {"root": "data", "sites": ["a", "b"], "external": "c"}}


RUNS = sorted(set(CONFIGS.glob("*.toml")) - {CONFIGS / "consortium.toml"})


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_every_shipped_configuration_is_valid_and_says_how_to_launch_it(file):
    config = load_config(file)
    assert config.name == file.stem
    header = file.read_text().split("\nname")[0]
    assert f"configs/{file.name}" in header


def test_scenario_66_an_unknown_key_is_refused_with_its_path_and_the_nearest_name():
    raw = {**MINIMAL, "training": {"learning_rat": 1e-3}}
    with pytest.raises(
        ConfigError, match=r"run\.toml: unknown key 'training\.learning_rat'.*'training\.learning_rate'"
    ):
        parse_config(raw, "run.toml")


def test_scenario_66_a_nested_unknown_key_names_the_nested_section():
    raw = {**MINIMAL, "training": {"augmentation": {"flips": 0.5}}}
    with pytest.raises(ConfigError, match=r"'training\.augmentation\.flips'.*'training\.augmentation\.flip'"):
        parse_config(raw, "run.toml")


def test_scenario_66_an_unknown_key_far_from_all_names_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"valid keys here: .*training"):
        parse_config({**MINIMAL, "zzzz": 1}, "run.toml")


def test_scenario_66_an_unknown_key_in_an_optional_section_is_explained():
    raw = {**MINIMAL, "data": {**MINIMAL["data"], "phantom": {"shifts": 1.0}}}
    with pytest.raises(ConfigError, match=r"'data\.phantom\.shifts'.*'data\.phantom\.shift'"):
        parse_config(raw, "run.toml")


def test_scenario_66_a_wrong_type_is_refused_with_path_and_value():
    with pytest.raises(ConfigError, match=r"'federation\.rounds'.*given: 'ten'"):
        parse_config({**MINIMAL, "federation": {"rounds": "ten"}}, "run.toml")


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r"'data\.root' is missing"):
        parse_config({"name": "tiny", "data": {"sites": ["a"]}}, "run.toml")


def test_batch_size_one_is_refused():
    with pytest.raises(ConfigError, match=r"'training\.batch_size'"):
        parse_config({**MINIMAL, "training": {"batch_size": 1}}, "run.toml")


def test_scenario_69_an_external_centre_among_the_trainers_is_refused():
    raw = {"name": "tiny", "data": {"root": "data", "sites": ["a", "c"], "external": "c"}}
    with pytest.raises(ConfigError, match=r"external centre 'c' is also listed in sites"):
        parse_config(raw, "run.toml")


def test_a_site_listed_twice_is_refused():
    with pytest.raises(ConfigError, match="one site twice"):
        parse_config({"name": "tiny", "data": {"root": "data", "sites": ["a", "a"]}}, "run.toml")


def test_more_required_sites_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="min_sites is 3"):
        parse_config({**MINIMAL, "federation": {"min_sites": 3}}, "run.toml")


def test_an_absent_file_lists_what_is_there(tmp_path):
    (tmp_path / "quick.toml").write_text("")
    with pytest.raises(ConfigError, match=r"cannot read.*found there: quick\.toml"):
        load_config(tmp_path / "quik.toml")


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("name = ")
    with pytest.raises(ConfigError, match=r"run\.toml is not valid TOML"):
        load_config(file)


def test_the_resolved_configuration_reads_back_as_itself(tmp_path):
    import tomli_w

    config = load_config(CONFIGS / "quick.toml")
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    assert parse_config(tomllib.loads(text), "resolved") == config


def test_an_unknown_task_is_one_error_with_the_tasks_there_are():
    with pytest.raises(ConfigError, match="'subtype-ensemble'") as caught:
        parse_config({"name": "t", "tasks": ["subtype"], "data": {"root": "d", "sites": ["a"]}}, "t")
    assert "at least 1 item" not in str(caught.value)


def federation(**keys):
    return parse_config({**MINIMAL, "federation": keys}, "run.toml").federation


def test_a_strategy_has_a_table_of_its_own_which_the_resolved_configuration_repeats():
    raw = {**MINIMAL, "tasks": ["receptor-status"], "federation": {"strategy": "fedprox", "fedprox": {"mu": 0.5}}}
    config = parse_config(raw, "run.toml")
    assert config.federation.algorithm == FedProx(mu=0.5)
    dumped = config.model_dump(mode="json", exclude_none=True)
    assert dumped["federation"]["fedprox"] == {"mu": 0.5}
    assert parse_config(dumped, "run.toml") == config
    assert config.for_task("receptor-status").federation.algorithm == FedProx(mu=0.5)
    assert federation().algorithm == FedAvg()
    assert federation(strategy="fedadam").algorithm == FedAdam()


def test_keys_of_strategies_that_had_none_of_their_own_are_read_as_before():
    former = {"server_learning_rate": 0.2, "server_beta_1": 0.8, "server_beta_2": 0.7, "server_tau": 0.1}
    adam = FedAdam(learning_rate=0.2, beta_1=0.8, beta_2=0.7, tau=0.1)
    # As a run folder of a former version holds them: all of them, whatever the strategy.
    assert federation(strategy="fedadam", proximal_mu=3.0, **former).algorithm == adam
    assert federation(strategy="fedprox", proximal_mu=3.0, **former).algorithm == FedProx(mu=3.0)


def test_a_former_key_beside_its_new_one_is_refused_with_the_new_name():
    with pytest.raises(ConfigError, match=r"run\.toml: 'federation\.proximal_mu' is now 'federation\.fedprox\.mu'"):
        federation(proximal_mu=1.0, fedprox={"mu": 2.0})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fedprox": {"muu": 1.0}}, r"unknown key 'federation\.fedprox\.muu'; did you mean 'federation\.fedprox\.mu'"),
        ({"fedprox": {"mu": -1.0}}, r"'federation\.fedprox\.mu': .*greater than or equal to 0"),
        ({"fedadam": {"beta_2": 1.0}}, r"'federation\.fedadam\.beta_2': .*less than 1"),
        ({"fedavg": {"mu": 1.0}}, r"unknown key 'federation\.fedavg\.mu'"),
        ({"strategy": "fedprocks"}, r"'federation\.strategy': 'fedprocks' is no strategy; did you mean 'fedprox'"),
        ({"strategy": "x"}, r"there are fedavg, fedprox, fedadam"),
        ({"round": 3}, r"unknown key 'federation\.round'; did you mean 'federation\.rounds'"),
    ],
)
def test_what_a_strategy_cannot_mean_is_refused_with_its_place(keys, message):
    with pytest.raises(ConfigError, match=message):
        federation(**keys)


CLASSIFIERS = {**MINIMAL, "tasks": ["subtype-ensemble", "receptor-ki67-multitask"]}


def test_scenario_66_an_unknown_key_of_a_tasks_section_is_refused_with_its_path_and_the_nearest_name():
    raw = {**CLASSIFIERS, "subtype_ensemble": {"plane_dept": 10}}
    with pytest.raises(
        ConfigError, match=r"run\.toml: unknown key 'subtype_ensemble\.plane_dept'.*'subtype_ensemble\.plane_depth'"
    ):
        parse_config(raw, "run.toml")
    nested = {**CLASSIFIERS, "subtype_ensemble": {"training": {"augmentation": {"flips": 0.5}}}}
    with pytest.raises(ConfigError, match=r"'subtype_ensemble\.training\.augmentation\.flips'.*augmentation\.flip'"):
        parse_config(nested, "run.toml")


def test_a_key_of_another_tasks_section_is_unknown():
    raw = {**CLASSIFIERS, "receptor_ki67_multitask": {"uncertainty_weights": True}}
    assert parse_config(raw, "t").for_task("receptor-ki67-multitask").section(MultitaskSection).uncertainty_weights
    with pytest.raises(ConfigError, match=r"unknown key 'subtype_ensemble\.uncertainty_weights'"):
        parse_config({**CLASSIFIERS, "subtype_ensemble": {"uncertainty_weights": True}}, "t")


def test_a_value_of_a_tasks_section_that_cannot_be_is_refused_with_its_path():
    with pytest.raises(ConfigError, match=r"'receptor_ki67_multitask\.rounds'.*given: 0"):
        parse_config({**CLASSIFIERS, "receptor_ki67_multitask": {"rounds": 0}}, "t")
    with pytest.raises(ConfigError, match=r"'receptor_ki67_multitask'"):
        parse_config({**CLASSIFIERS, "receptor_ki67_multitask": 3}, "t")


def test_an_unknown_section_is_refused_with_the_nearest_of_all_sections_also_of_tasks():
    with pytest.raises(ConfigError, match=r"unknown key 'receptor_statu'; did you mean 'receptor_status'"):
        parse_config({**CLASSIFIERS, "receptor_statu": {}}, "t")


def test_a_segmentation_task_has_an_empty_section():
    with pytest.raises(ConfigError, match=r"unknown key 'lesion_segmentation\.rounds'"):
        parse_config({**MINIMAL, "lesion_segmentation": {"rounds": 3}}, "t")


def test_a_section_of_a_task_that_the_run_does_not_name_is_checked_and_kept():
    raw = {**MINIMAL, "receptor_status": {"rounds": 3}}
    config = parse_config(raw, "t")
    assert config.model_dump(mode="json", exclude_none=True)["receptor_status"]["rounds"] == 3
    with pytest.raises(ConfigError, match=r"'receptor_status\.rounds'"):
        parse_config({**MINIMAL, "receptor_status": {"rounds": -1}}, "t")
    # Of one that is neither named nor given nothing stands in the resolved file.
    assert "lesion_malignancy" not in config.model_dump(mode="json")


def test_a_task_sees_its_own_rounds_and_training_loop_and_the_others_keep_theirs():
    raw = {**MINIMAL, "tasks": ["lesion-segmentation", "subtype-ensemble"], "federation": {"rounds": 7},
           "subtype_ensemble": {"rounds": 3, "training": {"learning_rate": 0.5}}}  # fmt: skip
    config = parse_config(raw, "t")
    lesions, subtypes = config.for_task("lesion-segmentation"), config.for_task("subtype-ensemble")
    assert (lesions.federation.rounds, subtypes.federation.rounds) == (7, 3)
    assert subtypes.training.learning_rate == 0.5
    assert lesions.training.learning_rate == config.training.learning_rate
    assert (lesions.task, subtypes.task) == ("lesion-segmentation", "subtype-ensemble")
    assert subtypes.for_task("subtype-ensemble") == subtypes


def test_a_section_of_another_kind_is_an_error():
    view = parse_config(CLASSIFIERS, "t").for_task("subtype-ensemble")
    assert view.section(ClassifierSection).rounds == 10
    with pytest.raises(ConfigError, match="'subtype-ensemble' has no section of the kind MultitaskSection"):
        view.section(MultitaskSection)


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_every_configuration_reads_back_as_itself_with_its_tasks_sections(file):
    import tomli_w

    config = load_config(file)
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    again = parse_config(tomllib.loads(text), "resolved")
    assert again == config
    assert {name: again.for_task(name) for name in again.tasks} == {
        name: config.for_task(name) for name in config.tasks
    }
    # As JSON too, which is how it travels.
    assert parse_config(json.loads(config.model_dump_json()), "json") == config


def test_two_configurations_whose_tasks_sections_differ_are_not_equal():
    one, other = (parse_config({**CLASSIFIERS, "subtype_ensemble": {"rounds": rounds}}, "t") for rounds in (3, 4))
    assert one != other


def test_leaving_a_centre_out_keeps_the_sections_and_the_order_of_the_others():
    raw = {**CLASSIFIERS, "subtype_ensemble": {"rounds": 3}}
    other = parse_config(raw, "t").leaving_out("a")
    assert (other.data.sites, other.data.external) == (("b", "c"), "a")
    assert other.for_task("subtype-ensemble").federation.rounds == 3
    with pytest.raises(ConfigError, match="no centre 'x' to hold out; there are a, b, c"):
        parse_config(raw, "t").leaving_out("x")


def test_labels_needs_and_modalities_are_those_of_the_tasks():
    config = parse_config(
        {**MINIMAL, "tasks": ["breast-segmentation", "receptor-status", "receptor-ki67-multitask"]}, "t"
    )
    assert [label.name for label in config.labels] == ["er", "pr", "her2", "ki67_percent"]
    assert config.modalities == ("mri",)
    assert config.needs("mri") == {"lesion", "tissues"}
    assert parse_config({**MINIMAL, "tasks": ["breast-segmentation"]}, "t").needs("mri") == {"tissues"}


def test_what_a_task_needs_follows_its_own_section():
    def needs(**extents):
        sections = {f"mammography_{name}": {"extent": extent} for name, extent in extents.items()}
        tasks = [f"mammography-{name}" for name in ("luminal", "malignancy")]
        return parse_config({**MINIMAL, "tasks": tasks, **sections}, "t").needs("mammography")

    assert needs() == {"lesion", "image"}
    assert needs(luminal="whole") == {"image"}
    assert needs(malignancy="roi") == {"lesion"}
    assert parse_config({**MINIMAL, "tasks": ["mammography-luminal"]}, "t").needs("mri") == set()


def test_a_key_that_names_a_file_is_told_by_its_path():
    raw = {**CLASSIFIERS, "subtype_ensemble": {"pretrained": "weights.pt"}}
    assert parse_config(raw, "t").keys_of_files() == ["subtype_ensemble.pretrained"]
    assert parse_config(CLASSIFIERS, "t").keys_of_files() == []


def test_a_task_that_the_run_does_not_name_is_seen_with_the_defaults_of_its_section():
    view = parse_config(MINIMAL, "t").for_task("receptor-ki67-multitask")
    assert view.section(MultitaskSection) == MultitaskSection()
    assert view.federation.rounds == MultitaskSection().rounds


def test_splits_are_stratified_by_labels_of_the_run_alone():
    raw = {"name": "t", "tasks": ["receptor-status"], "data": {"root": "d", "sites": ["a"]}}
    config = parse_config({**raw, "splits": {"stratify": ["her2", "er"]}}, "t")
    assert [label.name for label in config.split_labels] == ["er", "her2"]
    assert parse_config(raw, "t").split_labels == ()
    with pytest.raises(ConfigError, match=r"'splits.stratify' names malignant, no label of the run's tasks \(er, pr"):
        parse_config({**raw, "splits": {"stratify": ["malignant"]}}, "t")
