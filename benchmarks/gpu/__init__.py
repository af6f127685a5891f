"""A real language model finetuned and measured on a GPU that has no internet, in minutes.

python -m benchmarks.gpu.prepare --base runs/bases/gemma3_270m --root runs/gpu --out runs/gpu/carry    # at home
python -m benchmarks.gpu --base carry/base --data carry/data --minutes 10 --out results                # there
"""
