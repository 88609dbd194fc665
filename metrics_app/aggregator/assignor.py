"""Faust's partition assignor, telling every member who is active and who is standby for each partition."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from faust.assignor.partition_assignor import PartitionAssignor

STANDBY_SUFFIX = "::standby"


class Assignor(PartitionAssignor):
    """Publishes actives and, under the topic name with a suffix, standbys.

    Faust's own map holds actives only, and where two members have one URL (a worker restarted before its dead self
    has left the group) the second erases the first; here they are merged.

    Of topics with different numbers of partitions those are assigned that all have: where partitions were added to a
    topic in use, keys stay where they are, and nothing is in the others.
    """

    @classmethod
    def _get_copartitioned_groups(
        cls, topics: set[str], cluster: Any, subscriptions: MutableMapping[str, list[str]]
    ) -> Any:
        sizes = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        there = {topic for topic, size in sizes.items() if size}
        if not there:
            return {}
        return {min(sizes[topic] for topic in there): cls._group_co_subscribed(there, subscriptions)}

    def _get_changelog_distribution(self, assignments: Any) -> Any:
        by_url: dict[str, dict[str, list[int]]] = {}
        topics = self._table_manager.changelog_topics
        for member, assignment in assignments.items():
            of_url = by_url.setdefault(self._member_urls[member], {})
            for topic, partitions in self._topics_filtered(assignment.actives, topics).items():
                of_url.setdefault(topic, []).extend(partitions)
            for topic, partitions in self._topics_filtered(assignment.standbys, topics).items():
                of_url.setdefault(topic + STANDBY_SUFFIX, []).extend(partitions)
        return by_url
