"""The tests; beside unit tests, whole runs against real stores, brokers and child processes.

One thread for each process: the models here are tiny, and the threads of several processes that wait for each
other by spinning cost ten times the work. The environment is read when torch is loaded, so it is set first.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
