"""SynCL (NeurIPS 2025, arXiv 2411.06780): a part of the method a file. Training only.

- parallel decoding: `layers.decoder` runs both decoders in one pass; `strategy` asks for them
- `hybrid_matching`: one-to-many for detection, one-to-one for tracking, in the cross-attention decoder
- `query_filtering`: the Gaussian mixture that decides which one-to-many pairs are reliable
- `contrastive`: instance-aware contrastive learning
"""
