"""One runnable module for each claim: `python -m benchmarks.NAME [--quick]`.

Each prints one JSON object as its last line on stdout: name, whether the marks hold, figures, environment. It also
writes that object and a figure to benchmarks/results/. The exit code is 0 whenever the measurement itself worked.
"""

from tools.waiting import wait_patiently

# Before anything imports torch.
wait_patiently()
