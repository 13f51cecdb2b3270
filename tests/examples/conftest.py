from tests.fix_examples import examples

__all__ = ["examples"]
