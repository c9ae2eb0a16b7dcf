#!/usr/bin/env python3
"""Times one inference in onnxruntime, one thread: prints the same line of JSON as the example `infer_bench`.

    python benches/peers/inference.py MODEL [RUNS]
"""
import json
import statistics
import sys
import time

import numpy
import onnxruntime

model, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
start = time.perf_counter()
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
values = numpy.sin(numpy.arange(3 * 224 * 224, dtype=numpy.float32) * numpy.float32(0.37)).reshape(1, 3, 224, 224)
session.run(None, {name: values})
load = time.perf_counter() - start
wall = []
processor = time.thread_time()
for _ in range(runs):
    clock = time.perf_counter()
    session.run(None, {name: values})
    wall.append((time.perf_counter() - clock) * 1e3)
cpu = (time.thread_time() - processor) * 1e3 / runs
print(json.dumps({"load": load * 1e3, "wall": statistics.median(wall), "cpu": cpu}))
