"""The catalogue of faults and the tests agree."""

from tests.faults.catalogue import claims, names


def test_every_fault_is_provoked_by_a_test():
    assert names() - {claim.fault for claim in claims()} == set()


def test_no_test_claims_a_fault_that_is_not_in_the_catalogue():
    assert {claim.fault for claim in claims()} <= names()


def test_every_claim_says_how():
    assert all(claim.provoked for claim in claims())
