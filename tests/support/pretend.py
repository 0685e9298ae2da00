"""A GPU that there is not: tensors in the processor's memory, marked as lying on "cuda".

Within `pretending()`, `device="cuda"` makes marked tensors, what follows from them is marked, and
what torch refuses on a real GPU is refused: an operation on tensors of both devices, a generator of
the other one, numpy's view of a marked tensor. What is not marked lies on the
processor, which does all arithmetic; what torch itself makes for marked tensors is marked.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

GPU, HOST = torch.device("cuda:0"), torch.device("cpu")
MOVES = ("copy_", "_to_copy", "set_")
TAKE_INDICES = ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_")
TAKE_NO_NUMBERS = ("cat", "stack")  # tensors without dimensions count too, as for fused optimisers
MAKERS = (
    *(torch.zeros, torch.ones, torch.empty, torch.full, torch.eye, torch.arange, torch.linspace),
    *(torch.logspace, torch.rand, torch.randn, torch.randint, torch.randperm),
    *(torch.tensor, torch.as_tensor, torch.scalar_tensor),
)
LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
NEW = ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")


_within = [False]  # whether a function of a marked tensor is at work


class WrongDevice(RuntimeError):
    """What a GPU would have refused."""


class Generator(torch._C.Generator):
    """A generator of either device."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device).type
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return GPU if self.place == "cuda" else HOST


def _storage(tensor):
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # it has none
        return None


def place(tensor):
    """ "cuda" or "cpu"; None of what has no numbers."""
    storage = _storage(tensor)
    return None if storage is None or storage.device.type == "meta" else _place(storage)


def _place(storage):
    return getattr(storage, "place", "cpu")


def _mark(tensor, where):
    storage = _storage(tensor)
    if storage is not None:
        storage.place = where
    return tensor


class _Operations(TorchDispatchMode):
    """Refuses operations on tensors of both devices, and marks what comes of the others."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [each for each in tree_iter((args, kwargs)) if isinstance(each, torch.Tensor)]
        places = [place(each) for each in given]
        name = function.overloadpacket._qualified_op_name.partition("::")[2]
        if {"cuda", "cpu"} <= set(places) and name not in MOVES:
            self._check(name, given, places)
        before = {id(storage) for each in given if (storage := _storage(each)) is not None}
        out = function(*args, **kwargs)
        if name in ("copy_", "set_"):
            return out
        where = places[0] if name == "_to_copy" else "cuda" if "cuda" in places else None
        if not given and _within[0]:  # made in C++ on the way of an operation
            where = "cuda"
        for each in tree_iter(out):
            if isinstance(each, torch.Tensor) and where and id(_storage(each)) not in before:
                _mark(each, where)
        return out

    def _check(self, name, given, places):
        strays = [each for each, where in zip(given, places, strict=True) if where == "cpu"]
        if name in TAKE_INDICES and places[0] == "cuda":
            strays = [each for each in strays if each.is_floating_point()]
        elif name not in TAKE_NO_NUMBERS and not name.startswith("_fused"):
            strays = [each for each in strays if each.dim()]
        if strays:
            shapes = [f"{where} {tuple(g.shape)}" for g, where in zip(given, places, strict=True)]
            raise WrongDevice(f"{name}: {', '.join(shapes)}")


class _Functions(TorchFunctionMode):
    """Makes and moves tensors, and tells where they are."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return GPU if place(args[0]) == "cuda" else function(*args)
        if function == torch.Tensor.is_cuda.__get__:
            return place(args[0]) == "cuda"
        if function in (torch.Tensor.numpy, torch.Tensor.__array__) and place(args[0]) == "cuda":
            raise WrongDevice("numpy's view of a tensor on a GPU")
        if function is torch.Tensor.cpu:
            return _moved(args[0], "cpu")
        if function is torch.Tensor.to:
            return _to(function, args[0], *args[1:], **kwargs)
        if function in MAKERS:
            return _make(function, args, kwargs)
        if name in (*LIKE, *NEW, "__deepcopy__"):
            device = kwargs.pop("device", None)
            return _mark(function(*args, **kwargs), _type(device) if device else place(args[0]))
        given = [each for each in tree_iter((args, kwargs)) if isinstance(each, torch.Tensor)]
        with _at_work(_within[0] or "cuda" in map(place, given)):
            return function(*args, **kwargs)


@contextmanager
def _at_work(on_gpu):
    before, _within[0] = _within[0], on_gpu
    try:
        yield
    finally:
        _within[0] = before


def _type(device):
    return torch.device(device or "cpu").type


def _moved(tensor, where):
    there = place(tensor) or "cpu"
    return tensor if there == where else _mark(tensor.clone(), where)


def _to(function, tensor, *given, device=None, dtype=None, other=None, **kwargs):
    for each in given:
        if isinstance(each, torch.Tensor):
            other = each
        elif isinstance(each, torch.dtype):
            dtype = each
        elif isinstance(each, (torch.device, str)):
            device = each
    if other is not None:
        device, dtype = place(other) or "cpu", other.dtype
    if device is not None:
        tensor = _moved(tensor, _type(device))
    kwargs = {name: kwargs[name] for name in ("copy", "memory_format") if name in kwargs}
    return function(tensor, dtype or tensor.dtype, **kwargs) if dtype or kwargs else tensor


def _make(function, args, kwargs):
    where = _type(kwargs.get("device"))
    if where == "meta":
        return function(*args, **kwargs)
    if function is torch.as_tensor and isinstance(args[0], torch.Tensor):
        return torch.Tensor.to(*args, **kwargs)
    kwargs.pop("device", None)
    generator = kwargs.get("generator")
    if generator is not None and getattr(generator, "place", "cpu") != where:
        raise WrongDevice(f"{function.__name__}: generator on {generator.place}, not on {where}")
    with _at_work(False):
        return _mark(function(*args, **kwargs), where)


@contextmanager
def pretending(monkeypatch):
    """A context in which there is a GPU."""
    from_numpy = torch.from_numpy
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "from_numpy", lambda array: _mark(from_numpy(array), "cpu"))
        patch.setattr(torch.cuda, "synchronize", lambda *device: None)
        with _Operations(), _Functions():
            yield
