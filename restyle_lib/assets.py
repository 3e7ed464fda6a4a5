from pathlib import Path
def fetch(name): return Path('/tmp/dl/rf/random_face/data')
