"""The benchmarks, one file each; `registry` finds them."""
