"""Names of arms: parts of a network, sites on their own."""

from server.run_folder.arms import END_TO_END, FEDERATED, is_local, local_arm, reading_arm


def test_a_part_of_the_network_has_an_arm_of_its_own_and_its_own_answer_is_the_federations():
    assert reading_arm("") == FEDERATED
    assert reading_arm("axial") == "federated:axial"
    assert reading_arm("axial") != END_TO_END


def test_a_sites_own_model_is_told_from_every_other_arm():
    assert local_arm("centre-a") == "local:centre-a"
    assert is_local(local_arm("centre-a"))
    assert not any(map(is_local, (FEDERATED, END_TO_END, "pooled", "ensemble", "local")))
