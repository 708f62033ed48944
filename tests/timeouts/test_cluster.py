"""A cluster goes to threads: its client waits in ways of its own, which no budget ends."""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_resilient_cache import conf
from django_resilient_cache.timeouts.strategy import choose, make_limit
from django_resilient_cache.timeouts.time_limit import TimedOut
from tests import services
from tests.entries import CHAIN, VALKEY_CLUSTER
from tests.services.replication import cluster

from .sockets import GRACE, call, get, put, timed

pytestmark = pytest.mark.slow

#: A client that a thread makes has all slots and commands of the cluster to learn first.
LIMIT = 0.5


@pytest.fixture(scope="module")
def nodes():
    pytest.importorskip("django_valkey")
    with cluster() as made:
        yield made


@pytest.fixture
def limit(nodes):
    entry = {
        "BACKEND": VALKEY_CLUSTER,
        "LOCATION": nodes[0].url.replace("redis", "valkey", 1),
        "RESILIENCE": {"OPERATION_TIMEOUT": LIMIT},
    }
    chain = {"BACKEND": CHAIN, "LOCATION": ["cluster"]}
    with override_settings(CACHES={"default": chain, "cluster": entry}):
        config = conf.layer_config("cluster")
        strategy, reason = choose(config)
        assert strategy == "thread"
        assert "ClusterValkeyCache" in str(reason)
        made = make_limit(config)
        yield made
        made.close()


@pytest.fixture
def _thawed(nodes):
    yield
    for node in nodes:
        node.thaw()


def test_a_healthy_cluster(limit):
    keys = [f"key{number}" for number in range(20)]
    for key in keys:
        assert call(limit, put, key, f"value of {key}", budget=5.0)

    assert [call(limit, get, key, budget=5.0) for key in keys] == [f"value of {k}" for k in keys]
    assert services.wait_until(lambda: caches["default"].get("key7") == "value of key7")


@pytest.mark.usefixtures("_thawed")
def test_with_a_frozen_node_a_call_is_answered_or_cut(limit, nodes):
    """Not its own keys alone are cut: a new client may ask it for what there is to know."""
    keys = [f"key{number}" for number in range(20)]
    for key in keys:
        call(limit, put, key, f"value of {key}", budget=5.0)
    nodes[1].freeze()
    outcomes = {key: timed(call, limit, get, key, budget=LIMIT) for key in keys}

    cut = [seconds for outcome, seconds in outcomes.values() if isinstance(outcome, TimedOut)]
    answered = [key for key, (outcome, _) in outcomes.items() if outcome == f"value of {key}"]
    assert len(cut) + len(answered) == len(keys)
    assert len(cut) > 3
    assert sorted(cut)[len(cut) // 2] <= LIMIT + GRACE
    nodes[1].thaw()
    assert all(call(limit, get, key, budget=10.0) == f"value of {key}" for key in keys)


@pytest.mark.usefixtures("_thawed")
def test_all_nodes_frozen_before_the_first_connection(limit, nodes):
    """Its client connects when it is made, which is in the call."""
    for node in nodes:
        node.freeze()
    outcomes = [timed(call, limit, budget=LIMIT) for _ in range(5)]

    assert all(isinstance(outcome, TimedOut) for outcome, _ in outcomes)
    assert sorted(seconds for _, seconds in outcomes)[2] <= LIMIT + GRACE
