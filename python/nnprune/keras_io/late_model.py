"""A model that is made when somebody first asks for it: what needs no Keras need not start it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = ["LateModel", "Pending"]

# Not of the instance, which may be pickled; loading one model asks for no other.
_LOADING = threading.Lock()


class Pending(ABC):
    """What stands for a model that nobody has asked for yet."""

    @abstractmethod
    def load(self) -> keras.Model:
        """Make the model."""


class LateModel:
    """The field of a data class that holds a Keras model, or what makes it when it is first read.

    It stands where a default would, but the field must be given: a model or a `Pending`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        """Keep the name of the field."""
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the model; of the class, the field itself."""
        if instance is None:
            return self
        held = self.held(instance, self._name)
        if isinstance(held, Pending):
            with _LOADING:  # whoever asks meanwhile gets the same model
                held = self.held(instance, self._name)
                if isinstance(held, Pending):
                    held = vars(instance)[self._name] = held.load()
        return held

    def __set__(self, instance: Any, value: Any) -> None:
        """Hold a model, or what makes one."""
        if value is self:  # what a data class takes for the default
            raise TypeError(f"{type(instance).__name__}() needs the argument '{self._name}'")
        vars(instance)[self._name] = value

    @staticmethod
    def held(instance: Any, name: str) -> Any:
        """Return what a field of this kind holds as it is, without making the model."""
        return vars(instance)[name]
