# The studies, included by Makefile: hypermodels beside their baselines, with
# controls, adapters trained further, and a report of it all.
#
#   make study                              on records, both kinds of adapters
#   make study-sni DATA_DIR=/data           on Super-NaturalInstructions
#
# A step that is done is not done again, and one that was stopped goes on: its
# folder has a file .done, or .scored, once it is whole.
STUDY = runs/study_$(TASKS)
TASKS ?= records

STORED = --gin.CACHE_DIR=$(abspath $(STUDY))/tokens $(DATA)
OF_STUDY = $(STORED) --gin.USE_CACHED_TASKS=True
FILE = --gin_file=runs/study_$(TASKS)_
# The adapter is a rule's stem, what a run begins with its first prerequisite.
ADAPTERS = --gin_file=adapters/$*.gin
FROM = --gin.INITIAL_CHECKPOINT_PATH=$(abspath $(<D))
SHARED = --gin_file=stages/shared_adapter.gin

# LoRA acts on every position, and is trained further at a lower rate.
FURTHER_lora = --gin.optimizers.Constant.value=2e-3

KINDS ?= prefix lora
SHOTS ?= 1 2
SCORED = hypermodel no_hyperpretraining shared $(SHOTS:%=demonstrations_%)
FURTHER = peft_hypermodel peft_shared peft_random

.PHONY: study study-sni
study: $(VENV)/.installed
	$(MAKE) --no-print-directory TASKS=records runs/study_records/report.html

$(STUDY)/report.html: $(foreach kind,$(KINDS),\
  $(SCORED:%=$(STUDY)/$(kind)/%/.scored) $(FURTHER:%=$(STUDY)/$(kind)/%/.done))
	$(HYPERJAX) report $(^D) --out $@

define TRAIN
@echo "== $(@D)"
@mkdir -p $(@D)
$(HYPERJAX) train $(1) $(OF_STUDY) --gin.MODEL_DIR=$(abspath $(@D))
@touch $@
endef

define SCORE
@echo "== $(@D), scored"
@mkdir -p $(@D)
$(HYPERJAX) eval $(1) $(OF_STUDY) --gin.CHECKPOINT_PATH=$(abspath $(<D))
@touch $@
endef

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
	$(call TRAIN,$(ADAPTERS) $(FILE)multitask.gin $(SHARED) $(FROM))
$(STUDY)/%/peft_hypermodel/.done: $(STUDY)/%/hypermodel/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_$*) $(FROM))
$(STUDY)/%/peft_shared/.done: $(STUDY)/%/shared/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_$*) $(FROM))
$(STUDY)/%/peft_random/.done: $(STUDY)/backbone/.done
	$(call TRAIN,$(ADAPTERS) $(FILE)peft.gin $(FURTHER_$*) $(FROM))

$(STUDY)/%/hypermodel/.scored: $(STUDY)/%/hypermodel/.done
	$(call SCORE,$(ADAPTERS) $(FILE)eval.gin)
$(STUDY)/%/no_hyperpretraining/.scored: $(STUDY)/%/no_hyperpretraining/.done
	$(call SCORE,$(ADAPTERS) $(FILE)eval.gin)
$(STUDY)/%/shared/.scored: $(STUDY)/%/shared/.done
	$(call SCORE,$(ADAPTERS) $(FILE)eval.gin $(SHARED))

# The hypermodel from fewer demonstrations.
define FEWER
$(STUDY)/%/demonstrations_$(1)/.scored: $(STUDY)/%/hypermodel/.done
	$$(call SCORE,$$(ADAPTERS) $$(FILE)eval.gin --gin.NUM_DEMONSTRATIONS=$(1) \
	  --gin.few_shot.FewShotEvaluation.controls='("right",)' \
	  --gin.EVAL_OUTPUT_DIR=$$(abspath $$(@D)))
endef
$(foreach number,$(SHOTS),$(eval $(call FEWER,$(number))))
