"""The registry of forms: `@register` on a class adds one."""

from splitray.errors import UserError
from splitray.law.forms.form import Form

REGISTRY: dict[str, Form] = {}


def register(form: type[Form]) -> type[Form]:
    """Add a form under its name."""
    REGISTRY[form.name] = form()
    return form


def find(name: str) -> Form:
    """The form of that name.

    Raises:
        UserError: there is none; the message lists the known ones.
    """
    if name not in REGISTRY:
        raise UserError(f"form {name!r} is not known; known forms: {', '.join(REGISTRY)}, or 'auto'")
    return REGISTRY[name]
