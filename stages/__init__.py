"""One module or folder per stage of dvc.yaml, each runnable alone: `python -m stages.NAME`."""
