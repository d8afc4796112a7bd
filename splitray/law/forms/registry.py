"""The registry of forms: `@register` on a class adds one."""

from splitray.errors import UserError, check_choice
from splitray.law.forms.form import Form

REGISTRY: dict[str, Form] = {}


def register(form: type[Form]) -> type[Form]:
    """Add a form under its name."""
    REGISTRY[form.name] = form()
    return form


def find(name: str) -> Form:
    """The form of that name.

    Raises:
        UserError: there is none; the message lists the known ones, and the one that is spelled most like it.
    """
    check_choice("form", name, [*REGISTRY, "auto"])
    if name == "auto":
        raise UserError("form 'auto' is a contest of forms, not a form: name one")
    return REGISTRY[name]
