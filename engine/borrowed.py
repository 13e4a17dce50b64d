"""Named tuples by reference in compiled code: one pointer is handed over instead of hundreds of words.

A `Borrowed` stands for a named tuple that lies in memory. Its fields are read where they are used: a field that
is itself a named tuple is borrowed again, anything else is loaded. What is borrowed keeps its place and its
fields while compiled code runs (arrays may change what they hold), and the loads say so: the optimiser may keep
what was loaded in spite of stores through other pointers. The owner must outlive the borrower; nothing is
counted.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.experimental import structref
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model


class Borrowed(types.Type):  # type: ignore[misc]
    """The compiled type of a reference to `owner`: a named tuple's type, or that of a structref's payload."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        if isinstance(owner, types.StructRefPayload):
            self.fields = {name: (place, kind) for place, (name, kind) in enumerate(owner.field_dict.items())}
        else:
            kinds = zip(owner.fields, owner.types, strict=True)
            self.fields = {name: (place, kind) for place, (name, kind) in enumerate(kinds)}
        super().__init__(f"Borrowed({owner.name})")

    def field(self, name: str) -> Any:
        """The type of a field as it is read; None where there is no such field."""
        if name not in self.fields:
            return None
        kind = self.fields[name][1]
        return Borrowed(kind) if isinstance(kind, types.BaseNamedTuple) else kind


register_model(Borrowed)(models.OpaqueModel)


@infer_getattr
class _Fields(AttributeTemplate):  # type: ignore[misc]
    key = Borrowed

    def generic_resolve(self, borrowed: Borrowed, name: str) -> Any:
        return borrowed.field(name)


@lower_getattr_generic(Borrowed)  # type: ignore[untyped-decorator]
def _read(context: Any, builder: Any, borrowed: Borrowed, value: Any, name: str) -> Any:
    """A field of what `value` points to: its address where it is borrowed again, else what stands there."""
    place, kind = borrowed.fields[name]
    manager = context.data_model_manager
    whole = manager[borrowed.owner].get_value_type()
    address = cgutils.gep_inbounds(builder, builder.bitcast(value, whole.as_pointer()), 0, place)
    if isinstance(kind, types.BaseNamedTuple):
        return builder.bitcast(address, cgutils.voidptr_t)
    before = len(builder.block.instructions)
    found = manager[kind].load_from_data_pointer(builder, address)
    for instruction in builder.block.instructions[before:]:
        if instruction.opname == "load":
            instruction.set_metadata("invariant.load", builder.module.add_metadata([]))
    return impl_ret_borrowed(context, builder, kind, found)


@intrinsic  # type: ignore[untyped-decorator]
def borrow(_typing: Any, owner: Any) -> Any:
    """Reference to all that stands in a structref."""
    result = Borrowed(owner.get_data_type())

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = structref._Utils(context, builder, signature.args[0]).get_data_pointer(values[0])
        return builder.bitcast(pointer, cgutils.voidptr_t)

    return result(owner), code
