# The study on Super-NaturalInstructions (docs/sni_study.md), included by Makefile:
#
#   make study-sni DATA_DIR=/data [ADAPTER=lora] [SPLIT_LIST=small]
#
# A step that is done is not done again, and one that was stopped goes on: its
# folder has a file .done, .scored or .losses once it is whole.
STUDY ?= runs/study_sni_$(ADAPTER)
SPLIT_LIST ?= default
VOCABULARY = $(abspath $(STUDY))/spiece.model

STORED = --gin.DATA_DIR=$(DATA_DIR) --gin.VOCABULARY=$(VOCABULARY) \
  --gin.CACHE_DIR=$(abspath $(STUDY))/tokens \
  --gin.superni.SuperNaturalInstructions.split_list=$(SPLIT_LIST)
SNI = $(STORED) --gin.USE_CACHED_TASKS=True
FROM = --gin.INITIAL_CHECKPOINT_PATH=$(abspath $(<D))
MULTITASK = --gin_file=runs/study_sni_multitask.gin
EVAL = --gin_file=runs/study_sni_eval.gin
PEFT = --gin_file=runs/study_sni_peft.gin
# A lone prefix or LoRA wants a far higher rate than a whole hypermodel.
SHARED = --gin_file=stages/shared_adapter.gin
SHARED_RATE = --gin.optimizers.LinearDecay.peak=5e-3
IN_CONTEXT = --gin_file=stages/in_context.gin

STUDY_RUNS = hypermodel no_hyperpretraining shared in_context
STUDY_PEFT = peft_hypermodel peft_shared peft_random
# Not one: of a test task the first Positive Example alone is too long.
STUDY_SHOTS = shots_4

.PHONY: study-sni
study-sni: $(STUDY)/report.html $(STUDY)/curves.png $(STUDY)/hypermodel/.losses

$(STUDY)/report.html: \
  $(STUDY_RUNS:%=$(STUDY)/%/.scored) $(STUDY_SHOTS:%=$(STUDY)/%/.scored) \
  $(STUDY_PEFT:%=$(STUDY)/%/.done)
	$(HYPERJAX) report $(^D) $(STUDY)/hyperpretrain $(STUDY)/backbone --out $@

$(STUDY)/curves.png: $(STUDY_PEFT:%=$(STUDY)/%/.done)
	$(BIN)/python -m benchmarks.study_curves $(STUDY) --out=$@

# The loss of the targets under each control, which answers alone hide.
$(STUDY)/hypermodel/.losses: $(STUDY)/hypermodel/.done
	$(BIN)/python -m benchmarks.study_loss $(KIND) $(EVAL) $(SNI) \
	  --gin.CHECKPOINT_PATH=$(abspath $(<D))
	touch $@

$(VOCABULARY): | $(VENV)/.installed
	$(BIN)/python -m benchmarks.study_vocabulary --data_dir=$(DATA_DIR) \
	  --split_list=$(SPLIT_LIST) --out=$@

$(STUDY)/tokens/.done: $(VOCABULARY)
	$(HYPERJAX) cache --gin_file=runs/study_sni_cache.gin $(STORED)
	touch $@

# Trains a run: its options, and what it begins with is its first prerequisite.
define TRAIN
mkdir -p $(@D)
$(HYPERJAX) train $(1) $(SNI) --gin.MODEL_DIR=$(abspath $(@D))
touch $@
endef

define SCORE
$(HYPERJAX) eval $(1) $(SNI) --gin.CHECKPOINT_PATH=$(abspath $(<D))
mkdir -p $(@D)
touch $@
endef

$(STUDY)/backbone/.done: $(STUDY)/tokens/.done
	$(call TRAIN,--gin_file=runs/study_sni_pretrain.gin)
$(STUDY)/hyperpretrain/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(KIND) --gin_file=runs/study_sni_hyperpretrain.gin $(FROM))
$(STUDY)/hypermodel/.done: $(STUDY)/hyperpretrain/.done
	$(call TRAIN,$(KIND) $(MULTITASK) $(FROM))
$(STUDY)/no_hyperpretraining/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(KIND) $(MULTITASK) $(FROM))
$(STUDY)/shared/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(KIND) $(MULTITASK) $(SHARED) $(SHARED_RATE) $(FROM))
$(STUDY)/in_context/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(MULTITASK) $(IN_CONTEXT) $(FROM))
$(STUDY)/peft_hypermodel/.done: $(STUDY)/hypermodel/.done
	$(call TRAIN,$(KIND) $(PEFT) $(FROM))
$(STUDY)/peft_shared/.done: $(STUDY)/shared/.done
	$(call TRAIN,$(KIND) $(PEFT) $(FROM))
$(STUDY)/peft_random/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(KIND) $(PEFT) $(FROM))

$(STUDY)/hypermodel/.scored: $(STUDY)/hypermodel/.done
	$(call SCORE,$(KIND) $(EVAL))
$(STUDY)/no_hyperpretraining/.scored: $(STUDY)/no_hyperpretraining/.done
	$(call SCORE,$(KIND) $(EVAL))
$(STUDY)/shared/.scored: $(STUDY)/shared/.done
	$(call SCORE,$(KIND) $(EVAL) $(SHARED))
$(STUDY)/in_context/.scored: $(STUDY)/in_context/.done
	$(call SCORE,$(EVAL) $(IN_CONTEXT))
$(STUDY)/shots_%/.scored: $(STUDY)/hypermodel/.done
	$(call SCORE,$(KIND) $(EVAL) --gin.NUM_DEMONSTRATIONS=$* \
	  --gin.few_shot.FewShotEvaluation.controls='("right",)' \
	  --gin.EVAL_OUTPUT_DIR=$(abspath $(@D)))
