# The studies, included by Makefile: hypermodels beside their baselines, with
# controls, adapters trained further, and a report of it all.
#
#   make study                                        on records
#   make study-sni DATA_DIR=/data [SPLIT_LIST=small]  on Super-NaturalInstructions
#
# KINDS is "prefix lora" for the first, prefix for the second. A step that is done is
# not done again, and one that was stopped goes on: its folder has a file .done
# or .scored once it is whole. Settings are not looked at: where they have
# changed, remove the folders of the steps that they change, or all of the study's.
#
# JOBS steps run at a time, of one thread each (XLA reads NPROC), and print their
# lines when they end: models this small gain little from a second core. JOBS=1 where
# they would share a GPU.
TASKS ?= records
JOBS ?= 2
STUDY = runs/study_$(TASKS)
KINDS_records ?= prefix lora
KINDS_sni ?= prefix
KINDS ?= $(KINDS_$(TASKS))
SPLIT_LIST ?= default
VOCABULARY = $(abspath $(STUDY))/spiece.model

# What the hypermodel is scored with besides the number it is trained for. Of a test
# task of Super-NaturalInstructions one demonstration alone is often too long.
FEWER_records = 1 2
FEWER_sni = 4
SCORED = hypermodel no_hyperpretraining shared $(FEWER_$(TASKS):%=demonstrations_%)
FURTHER = peft_hypermodel peft_shared peft_random
TRAINED = hyperpretrain hypermodel no_hyperpretraining shared $(FURTHER)
# LoRA acts on every position, and is trained further at a lower rate.
FURTHER_RATE_records_lora = --gin.optimizers.Constant.value=2e-3
# A lone prefix or LoRA takes a far higher rate than a whole hypermodel. On records
# these two were the best of 1e-3, 3e-3, 1e-2 and 3e-2, by the training loss.
SHARED_RATE_records_prefix = --gin.optimizers.LinearDecay.peak=3e-2
SHARED_RATE_records_lora = --gin.optimizers.LinearDecay.peak=1e-2
SHARED_RATE_sni_prefix = --gin.optimizers.LinearDecay.peak=5e-3

# The loss of the targets under each control too, which answers alone hide.
LOSSES_sni = --gin.TARGET_LOSSES=True
DATA_sni = --gin.DATA_DIR=$(DATA_DIR) --gin.VOCABULARY=$(VOCABULARY) \
  --gin.superni.SuperNaturalInstructions.split_list=$(SPLIT_LIST)
STORED = --gin.CACHE_DIR=$(abspath $(STUDY))/tokens $(DATA_$(TASKS))
OF_STUDY = $(STORED) --gin.USE_CACHED_TASKS=True
FILE = --gin_file=runs/study_$(TASKS)_
# The adapter is a rule's stem, what a run begins with its first prerequisite.
ADAPTERS = --gin_file=adapters/$*.gin
FROM = --gin.INITIAL_CHECKPOINT_PATH=$(abspath $(<D))
SHARED = --gin_file=stages/shared_adapter.gin
IN_CONTEXT = --gin_file=stages/in_context.gin
FURTHER_RATE = $(FURTHER_RATE_$(TASKS)_$*)

SIDE_BY_SIDE = --no-print-directory --jobs=$(JOBS) \
  $(if $(filter output-sync,$(.FEATURES)),--output-sync=line)

.PHONY: study study-sni whole_records whole_sni

study: $(VENV)/.installed
	@$(MAKE) $(SIDE_BY_SIDE) TASKS=records whole_records

study-sni: $(VENV)/.installed
	@test -n "$(DATA_DIR)" || { echo "make study-sni needs DATA_DIR=..."; exit 2; }
	@$(MAKE) $(SIDE_BY_SIDE) TASKS=sni whole_sni
whole_records: $(STUDY)/report.html
whole_sni: $(STUDY)/report.html

# What a rule names is no intermediate file: it is made wherever it lacks, and kept.
$(foreach kind,$(KINDS),$(TRAINED:%=$(STUDY)/$(kind)/%/.done)):

$(STUDY)/report.html: $(foreach kind,$(KINDS),\
  $(SCORED:%=$(STUDY)/$(kind)/%/.scored) $(FURTHER:%=$(STUDY)/$(kind)/%/.done)) \
  $(STUDY)/in_context/.scored
	$(HYPERJAX) report $(^D) $(KINDS:%=$(STUDY)/%/hyperpretrain) \
	  $(STUDY)/backbone --out $@

# Nothing else runs while the T5 is trained.
ONE_THREAD = $(if $(filter-out 1,$(JOBS)),$(if $(filter %/backbone,$(@D)),,NPROC=1))
define TRAIN
@echo "== $(@D)"
@mkdir -p $(@D)
$(ONE_THREAD) $(HYPERJAX) train $(1) $(OF_STUDY) --gin.MODEL_DIR=$(abspath $(@D))
@touch $@
endef

define SCORE
@echo "== $(@D), scored"
@mkdir -p $(@D)
$(ONE_THREAD) $(HYPERJAX) eval $(1) $(OF_STUDY) --gin.CHECKPOINT_PATH=$(abspath $(<D))
@touch $@
endef

runs/study_sni/spiece.model: | $(VENV)/.installed
	@mkdir -p $(@D)
	$(BIN)/python -m benchmarks.study_vocabulary --data_dir=$(DATA_DIR) \
	  --split_list=$(SPLIT_LIST) --out=$@
runs/study_sni/tokens/.done: runs/study_sni/spiece.model

$(STUDY)/tokens/.done: | $(VENV)/.installed
	@echo "== storing the tokens of all runs"
	$(HYPERJAX) cache $(FILE)cache.gin $(STORED)
	@touch $@
$(STUDY)/backbone/.done: $(STUDY)/tokens/.done
	$(call TRAIN,$(FILE)pretrain.gin)

$(STUDY)/%/hyperpretrain/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)hyperpretrain.gin $(FROM))
$(STUDY)/%/hypermodel/.done: $(STUDY)/%/hyperpretrain/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)multitask.gin $(FROM))
$(STUDY)/%/no_hyperpretraining/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)multitask.gin $(FROM))
$(STUDY)/%/shared/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)multitask.gin $(SHARED) \
	  $(SHARED_RATE_$(TASKS)_$*) $(FROM))
$(STUDY)/in_context/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(FILE)multitask.gin $(IN_CONTEXT) $(FROM))
$(STUDY)/%/peft_hypermodel/.done: $(STUDY)/%/hypermodel/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_RATE) $(FROM))
$(STUDY)/%/peft_shared/.done: $(STUDY)/%/shared/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_RATE) $(FROM))
$(STUDY)/%/peft_random/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_RATE) $(FROM))

$(STUDY)/%/hypermodel/.scored: $(STUDY)/%/hypermodel/.done
	$(call SCORE,$(FILE)eval.gin $(LOSSES_$(TASKS)))
$(STUDY)/%/no_hyperpretraining/.scored: $(STUDY)/%/no_hyperpretraining/.done
	$(call SCORE,$(FILE)eval.gin)
$(STUDY)/%/shared/.scored: $(STUDY)/%/shared/.done
	$(call SCORE,$(FILE)eval.gin)
$(STUDY)/in_context/.scored: $(STUDY)/in_context/.done
	$(call SCORE,$(FILE)eval.gin)

# The hypermodel from other numbers of demonstrations.
define FEWER
$(STUDY)/%/demonstrations_$(1)/.scored: $(STUDY)/%/hypermodel/.done
	$$(call SCORE,$$(FILE)eval.gin --gin.NUM_DEMONSTRATIONS=$(1) \
	  --gin.few_shot.FewShotEvaluation.controls='("right",)' \
	  --gin.EVAL_OUTPUT_DIR=$$(abspath $$(@D)))
endef
$(foreach number,$(FEWER_$(TASKS)),$(eval $(call FEWER,$(number))))
