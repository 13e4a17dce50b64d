"""`python -m benchmarks.continual JOB`: run one job, given as JSON; its record is the last line it says."""

import json
import sys

from benchmarks.continual.job import Job, run

print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
