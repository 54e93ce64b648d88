"""lrpref beside other libraries, on one machine: the same network, the same input, the same relevance.

    python -m bench.run                 time and memory: lrpref's backends, zennit, Captum (`make bench`)
    python -m bench.accuracy            float32 beside the float64 reference, and whether the books close

`networks.py` holds what is explained, `sides.py` and `peers.py` who explains, `turn.py` one turn in a process
of its own, `flops.py` the work that there is to do, `report.py` the table and the chart.
"""
