"""The roles that the fields of a config play, by their names: what `shrink` scales, selects, clamps or keeps."""

from __future__ import annotations

LAYERS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
    "num_decoder_layers", "num_encoder_layers", "num_blocks", "num_layers_per_stack",
)  # fmt: skip
STACK = "num_layers_per_stack"
HIDDEN = ("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim")
"""The width of the hidden state."""
WIDTHS = (
    "hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim", "embedding_size", "word_embed_proj_dim",
    "input_embedding_size", "output_embedding_size", "attention_hidden_size", "lru_width", "intermediate_size",
    "intermediate_size_mlp", "ffn_dim", "n_inner", "dff", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size",
    "expert_ffn_hidden_size", "moe_intermediate_size", "dim_ff", "d_inner", "shared_intermediate_size",
    "shared_expert_intermediate_size", "shared_experts_intermediate_size", "feed_forward_size",
    "moe_shared_expert_intermediate_size", "dense_intermediate_size", "q_lora_rank", "kv_lora_rank", "o_lora_rank",
    "hidden_size_per_layer_input", "router_hidden_size", "laurel_rank", "ple_embed_dim", "hc_lowrank", "d_rel",
    "gated_norm_rank", "adapter_rank", "time_step_rank", "mamba_dt_rank", "block_multiple_of",
    "pronunciation_embed_dim", "shape_embed_dim",
)  # fmt: skip
HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
    "encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads", "index_n_heads",
    "swa_num_attention_heads", "linear_num_heads", "linear_num_value_heads", "num_attention_heads_per_layer",
)  # fmt: skip
KV_HEADS = (
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "swa_num_key_value_heads", "num_query_groups",
    "num_global_key_value_heads", "linear_num_key_heads",
)  # fmt: skip
HEAD_DIMS = (
    "head_dim", "global_head_dim", "swa_head_dim", "dim_head", "attention_head_size", "d_head", "kv_channels",
    "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_head_dim", "linear_head_dim", "linear_key_head_dim",
    "linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "mamba_headdim",
)  # fmt: skip
EXPERTS = (
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts",
)  # fmt: skip
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k", "top_k")
GROUPS = ("n_group", "num_expert_group")
STATES = (
    "mamba_d_state", "ssm_state_size", "state_size",
)  # fmt: skip
SSM_HEADS = (
    "mamba_n_heads", "mamba_num_heads", "n_mamba_heads",
)  # fmt: skip
SSM_GROUPS = (
    "mamba_n_groups", "mamba_ngroups", "n_groups", "o_groups",
)  # fmt: skip
CHUNKS = ("mamba_chunk_size", "chunk_size")
BOUNDARIES = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "max_window_layers")
"""Layers below the number are of another kind than those at or above it."""
INDEX_LISTS = (
    "mlp_only_layers", "moe_layers", "full_attn_idxs", "cross_attention_layers", "hybrid_layer_ids",
    "attn_layer_indices", "local_layer_ids", "ple_layer_ids",
)  # fmt: skip
PERIODS = (
    "attn_layer_period", "expert_layer_period", "decoder_sparse_step", "no_rope_layer_interval", "layer_group_size",
    "sliding_window_pattern", "_sliding_window_pattern", "interleave_moe_layer_step", "global_attn_every_n_layers",
    "moe_layer_interval", "n_layers_per_attn_res_block",
)  # fmt: skip
PATTERNS = ("block_types",)
"""Lists repeated over the layers."""
KINDS = ("layers_block_type", "layer_types", "layer_type_list")
"""Lists of the layers' kinds: their length is the number of layers where no field says it."""
WIDTH_LISTS = ("axial_pos_embds_dim",)
"""Widths that sum to the hidden size."""
HASHES = ("encoder_hash_byte_group_vocab", "ngram_vocab_size_base")
"""Rows that are looked up by a hash modulo their number: any number serves."""
REPEATED = {"zamba": ("layers_block_type", "hybrid")}
"""Per type, a list and the kind of layer it needs twice: Zamba ties its later hybrid layers to the first, and is not
built with one alone."""
LEAST_WIDTH = {"xlstm": 128}
"""Per type, a width below which the class contradicts itself: xLSTM's cache rounds half the width up to 64, and its
layers do not."""
DECIDING = (
    "hidden_act", "hidden_activation", "activation_function", "attention_bias", "mlp_bias", "use_qk_norm", "qk_norm",
    "sliding_window", "use_sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "logits_scaling",
    "logit_scale", "embedding_multiplier", "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar",
    "scale_embedding", "alibi", "parallel_attn", "new_decoder_architecture", "multi_query", "num_kv_shared_layers",
)  # fmt: skip
