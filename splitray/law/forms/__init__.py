"""The forms of the law: a registry, what every form is, and dual numbers that give exact slopes."""

from splitray.law.forms import one_stage, two_stage  # noqa: F401 - they register their forms
from splitray.law.forms.form import Constant, Form, coefficient, exponent
from splitray.law.forms.registry import REGISTRY, find, register

__all__ = ["REGISTRY", "Constant", "Form", "coefficient", "exponent", "find", "register"]
