"""The condition for an alarm to stay: the same comparisons, with limits that are further away by a dead-band."""

from dataclasses import replace

from edge.analytics.expression.syntax import Binary, Compare, Literal, Logic, Node, Unary

_SIGN = {"<": 1, "<=": 1, ">": -1, ">=": -1}


def has_limit(node: Node) -> bool:
    """Tell whether there is a comparison that a dead-band can widen."""
    match node:
        case Compare():
            return node.sign in _SIGN
        case Logic():
            return any(map(has_limit, node.operands))
        case Unary(sign="not"):
            return has_limit(node.operand)
    return False


def widened(node: Node, band: float) -> Node:
    """Return the condition with each limit moved by `band`, so that it is true for longer."""
    match node:
        case Compare() if node.sign in _SIGN:
            moved = Literal(_SIGN[node.sign] * band, node.end, node.end)
            return replace(node, right=Binary("+", node.right, moved, node.right.start, node.right.end))
        case Logic():
            return replace(node, operands=tuple(widened(operand, band) for operand in node.operands))
        case Unary(sign="not"):
            return replace(node, operand=widened(node.operand, -band))
    return node
