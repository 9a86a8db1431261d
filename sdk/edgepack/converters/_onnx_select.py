"""onnx2tf's choice between two values, made a choice again.

Where shapes differ, onnx2tf writes Where as sums and products, which give NaN if the value that is not chosen is
infinite or NaN: the mask of an attention, or the quotient of a division that looks at its divisor first::

    c = CAST(condition);  c * x + (1 - c) * y      =>      SELECT_V2(condition, x, y)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from edgepack._flatbuffer_edit import pack, unpack
from edgepack.converters._edges import opcode

__all__ = ["with_selects"]

# The most dimensions that SELECT_V2 spreads in every engine we know.
_MOST_DIMENSIONS = 4


def with_selects(data: bytes) -> bytes:
    """Return the file with these sums and products as choices; the same bytes where there are none."""
    model = unpack(data)
    found = [_Graph(model, graph).choose() for graph in model.subgraphs]
    return pack(model) if any(found) else data


class _Graph:
    """One graph of the file, and what makes each of its tensors."""

    def __init__(self, model: Any, graph: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.model, self.graph = schema, model, graph
        self.names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
        self.maker: Any = {int(t): operator for operator in graph.operators for t in operator.outputs}

    def choose(self) -> bool:
        """Rewrite every such sum; return whether there was one."""
        left_over = []
        for operator in list(self.graph.operators):
            if self._kind(operator) == "ADD" and (found := self._chosen(operator)) is not None:
                chosen, parts = found
                operator.opcodeIndex = opcode(self.schema, self.model, "SELECT_V2", 1)
                operator.inputs = chosen
                operator.builtinOptionsType = self.schema.BuiltinOptions.SelectV2Options
                operator.builtinOptions = self.schema.SelectV2OptionsT()
                left_over += parts
        # Products first, then the difference, then the cast: each may have been the only one to read the next.
        for operator in left_over:
            read = Counter(int(t) for other in self.graph.operators for t in other.inputs)
            if not any(read[int(t)] or t in list(self.graph.outputs) for t in operator.outputs):
                self.graph.operators = [other for other in self.graph.operators if other is not operator]
        return bool(left_over)

    def _chosen(self, add: Any) -> tuple[list[int], list[Any]] | None:
        """Return the condition and both values of such a sum, and the operators that are no longer needed for it."""
        first, second = (self.maker.get(int(t)) for t in add.inputs)
        kinds = {self._kind(first), self._kind(second)}
        if add.builtinOptions.fusedActivationFunction or kinds != {"MUL"}:
            return None
        for yes, no in ((first, second), (second, first)):
            for i in range(2):
                for j in range(2):
                    cast, difference = self.maker.get(int(yes.inputs[i])), self.maker.get(int(no.inputs[j]))
                    if self._is_condition(cast) and self._is_its_opposite(difference, int(yes.inputs[i])):
                        chosen = [int(cast.inputs[0]), int(yes.inputs[1 - i]), int(no.inputs[1 - j])]
                        fits = all(len(self._shape(t)) <= _MOST_DIMENSIONS for t in (*chosen, int(add.outputs[0])))
                        plain = not any(o.builtinOptions.fusedActivationFunction for o in (yes, no, difference))
                        return (chosen, [yes, no, difference, cast]) if fits and plain else None
        return None

    def _is_condition(self, operator: Any) -> bool:
        if self._kind(operator) != "CAST":
            return False
        return bool(self.graph.tensors[operator.inputs[0]].type == self.schema.TensorType.BOOL)

    def _is_its_opposite(self, operator: Any, condition: int) -> bool:
        if self._kind(operator) != "SUB" or operator.inputs[1] != condition:
            return False
        one = self.graph.tensors[operator.inputs[0]]
        content = self.model.buffers[one.buffer].data
        float32 = one.type == self.schema.TensorType.FLOAT32
        return float32 and content is not None and bytes(content) == b"\x00\x00\x80\x3f"

    def _kind(self, operator: Any) -> str:
        if operator is None:
            return ""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return str(self.names.get(max(code.builtinCode, code.deprecatedBuiltinCode), ""))

    def _shape(self, tensor: int) -> list[int]:
        shape = self.graph.tensors[tensor].shape
        return [] if shape is None else list(shape)
