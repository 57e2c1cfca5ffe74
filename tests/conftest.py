"""Fixtures that every test may use; each lives in the module that says how it works."""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres"]

# How long an example takes says how busy the machine is, and how many of the first were thrown away says what came by chance:
# neither is a failure of the property.
BY_CHANCE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("runtide", deadline=None, suppress_health_check=BY_CHANCE)
settings.load_profile("runtide")

# Whoever starts the tests in the background of a script leaves SIGINT ignored, which every process that they start would
# inherit: none of them could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
