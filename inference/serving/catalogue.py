"""The part of a server's catalogue that a tenant may look products up in.

own = catalogue_of(tenant, catalogue);  own.get("p17")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reshelf.data.schema import Item
from reshelf.inference.rules import Rules
from reshelf.inference.serving.tenants import Tenant


def catalogue_of(tenant: Tenant, catalogue: Mapping[str, Item]) -> Mapping[str, Item]:
    """Items by id: those that the tenant's `only` permits, or all where it has none.

    What is stocked today, its `never`, changes: it keeps products out of lists, not what happened to them from being
    known.
    """
    if tenant.rules is None or not tenant.rules.only:
        return catalogue
    return _Permitted(catalogue, Rules(only=tenant.rules.only).permission())


class _Permitted(Mapping[str, Item]):
    """Looks at an item when it is asked for: a catalogue has a million."""

    def __init__(self, catalogue: Mapping[str, Item], is_permitted: Callable[[Item], bool]) -> None:
        self._catalogue, self._is_permitted = catalogue, is_permitted

    def __getitem__(self, item_id: str) -> Item:
        item = self._catalogue[item_id]
        if not self._is_permitted(item):
            raise KeyError(item_id)
        return item

    def __iter__(self) -> Iterator[str]:
        return (item_id for item_id in self._catalogue if item_id in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._catalogue)
