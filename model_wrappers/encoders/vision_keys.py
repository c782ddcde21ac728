"""What the config of a vision encoder may say, as transformers writes it; no torch needed."""

from redundancy_eval.model_wrappers.checkpoints.config_keys import (
    ACTIVATION,
    COUNT,
    EVERY,
    FLAG,
    LAYERS,
    NUMBER,
    SIZE,
    SIZES,
    Keys,
    each,
    words,
)  # fmt: skip

# CLIP's and SigLIP's image sides.
VISION = EVERY | Keys(
    read={
        **each(SIZE, "hidden_size intermediate_size num_attention_heads image_size patch_size"),
        **each(LAYERS, "num_hidden_layers"),
        **each(NUMBER, "layer_norm_eps"),
        **each(ACTIVATION, "hidden_act"),
    },
    fixed={"num_channels": (3,)},
    idle=words(
        "projection_dim tie_word_embeddings bos_token_id eos_token_id pad_token_id vision_use_head num_image_tokens"
    ),  # of the head that compares pictures with texts, which no family uses
)
CLIP = EVERY | Keys(
    parts={"vision_config": VISION, "vision_config_dict": VISION},
    idle=words("text_config text_config_dict logit_scale_init_value projection_dim tie_word_embeddings"),
)
SAM_VISION = VISION | Keys(
    read={
        **each(SIZE, "output_channels mlp_dim"),
        **each(NUMBER, "mlp_ratio"),
        **each(COUNT, "window_size"),
        **each(SIZES, "global_attn_indexes"),
        **each(FLAG, "qkv_bias use_abs_pos use_rel_pos"),
    },
    idle=words("intermediate_size num_pos_feats"),
)
DINOV2 = EVERY | Keys(
    read={
        **each(SIZE, "hidden_size num_attention_heads image_size patch_size mlp_ratio"),
        **each(LAYERS, "num_hidden_layers"),
        **each(NUMBER, "layer_norm_eps"),
        **each(FLAG, "use_swiglu_ffn qkv_bias"),
        **each(ACTIVATION, "hidden_act"),
    },
    fixed={"num_channels": (3,)},
    # of its use as a backbone; the layer scale is a tensor of the file
    idle=words(
        "apply_layernorm reshape_hidden_states out_features out_indices stage_names layerscale_value use_mask_token "
        "tie_word_embeddings"
    ),
)
