"""Statistics of samples, and what the driver says of the card (NVML through ctypes)."""
import ctypes
import math

import torch


def short(x):
    return float(f"{x:.6g}")


def stats_of(samples):
    samples = sorted(samples)

    def at(share):
        return short(samples[math.floor(share * (len(samples) - 1) + 0.5)])
    return {"median_us": at(0.5), "q1_us": at(0.25), "q3_us": at(0.75), "samples": len(samples)}


class Nvml:
    """Clock and power of the device; zeros where NVML is missing."""

    class Field(ctypes.Structure):
        _fields_ = [("field", ctypes.c_uint), ("scope", ctypes.c_uint), ("time", ctypes.c_longlong),
                    ("latency", ctypes.c_longlong), ("type", ctypes.c_int),
                    ("result", ctypes.c_int), ("value", ctypes.c_uint), ("rest", ctypes.c_uint)]

    def __init__(self, uuid):
        self.device = ctypes.c_void_p()
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            self.library = None
            return
        self.library.nvmlInit_v2()
        name = uuid if uuid.startswith("GPU-") else "GPU-" + uuid
        if self.library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self.device)) != 0:
            self.device = None

    def mhz(self, call, clock):  # clock 1: SM, 2: memory
        value = ctypes.c_uint()
        if self.library is None or self.device is None:
            return 0
        failed = getattr(self.library, call)(self.device, clock, ctypes.byref(value))
        return 0 if failed else value.value

    def sm_mhz(self):
        return self.mhz("nvmlDeviceGetClockInfo", 1)

    def watts(self):
        power = self.Field(field=186)  # NVML_FI_DEV_POWER_INSTANT, milliwatts
        if self.library is None or self.device is None:
            return 0
        failed = self.library.nvmlDeviceGetFieldValues(self.device, 1, ctypes.byref(power))
        return 0 if failed or power.result else round(power.value / 1000)

    def driver(self):
        text = ctypes.create_string_buffer(96)
        if self.library is None or self.library.nvmlSystemGetDriverVersion(text, 96) != 0:
            return "unknown"
        return text.value.decode()


def cublas_version():
    try:
        library = ctypes.CDLL(f"libcublasLt.so.{torch.version.cuda.split('.')[0]}")
        library.cublasLtGetVersion.restype = ctypes.c_size_t
        version = library.cublasLtGetVersion()
    except (OSError, AttributeError):
        return "unknown"
    return f"{version // 10000}.{version % 10000 // 100}.{version % 100}"
