"""`python -m model_code.serving`. Imports nothing by itself: an engine's worker process loads it again."""

if __name__ == "__main__":
    import sys

    from model_code.serving.server import main

    sys.exit(main())
