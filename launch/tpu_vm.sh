#!/bin/bash
# HyperJAX on a Cloud TPU slice, from your own machine: 16 TPU v5e, 4 hosts of 4.
#
#   BUCKET=my-bucket launch/tpu_vm.sh
#
# Needs gcloud with a project and default credentials, and `hyperjax[all]` here for plan
# and report. The bucket holds data/ and the initial checkpoint, and gets tokens and
# runs; docs/buckets.md says how. The TPU is deleted at the end, whatever the end is:
# nothing is paid for that is not used.

set -euo pipefail

: "${BUCKET:?which bucket: BUCKET=my-bucket $0}"
NAME=${NAME:-hyperjax}
ZONE=${ZONE:-us-central1-a}
TYPE=${TYPE:-v5litepod-16}
TOPOLOGY=${TOPOLOGY:-v5e:4x4}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
RUN=${RUN:-mtf_sni}

TRAIN=(
  --gin_file=adapters/lora.gin
  --gin_file=runs/mtf_sni.gin
  '--gin.MESH={"fsdp": 8}'
  "--gin.DATA_DIR=gs://$BUCKET/data"
  "--gin.CACHE_DIR=gs://$BUCKET/tokens"
  "--gin.INITIAL_CHECKPOINT_PATH=gs://$BUCKET/hyperpretrain"
  "--gin.MODEL_DIR=gs://$BUCKET/runs/$RUN"
)
EVAL=(
  --gin_file=runs/eval_sni.gin
  "--gin.DATA_DIR=gs://$BUCKET/data"
  "--gin.CACHE_DIR=gs://$BUCKET/tokens"
  "--gin.CHECKPOINT_PATH=gs://$BUCKET/runs/$RUN"
)

on_all() { # runs a command on every host, and fails where one of them fails
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
    --command="$1"
}

hyperjax plan "${TRAIN[@]}" "--topology=$TOPOLOGY"

gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" \
  --accelerator-type="$TYPE" --version="$VERSION"
trap 'gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet' EXIT

on_all "set -e
  python3 -m venv .hyperjax
  .hyperjax/bin/pip install --quiet 'hyperjax[train,gcs]' 'jax[tpu]'"

# One host stores the tokens, so that not every one makes its own.
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=0 \
  --command=".hyperjax/bin/hyperjax cache ${TRAIN[*]@Q}"

# Cloud TPU says to each host which one it is.
on_all ".hyperjax/bin/hyperjax train --distributed ${TRAIN[*]@Q}"
on_all ".hyperjax/bin/hyperjax eval --distributed ${EVAL[*]@Q}"

hyperjax report "gs://$BUCKET/runs/$RUN" "--out=report-$RUN.html"
