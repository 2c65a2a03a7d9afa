"""The network: a BERT trunk (parameter names as in transformers' BertModel, no prefix), character-aware pieces, and the heads."""
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import data
import embed

HIDDEN, LAYERS, ATTN, INNER, POSITIONS, EPS = 384, 3, 12, 1536, 512, 1e-12
HEADS = {"sentiment": data.SENTIMENT, "intent": data.INTENT, "keyphrases": data.TAGS, "emotion": data.EMOTION}
AUX = {"domain": 22, "channel": len(data.CHANNEL)}  # only while training


class Pieces(nn.Module):
    """own vector + mean of the hashed character n-gram vectors of each piece; computed once per distinct piece of a batch."""

    def __init__(self, pieces):
        super().__init__()
        self.own = nn.Embedding(len(pieces), HIDDEN, sparse=True)
        self.bag = nn.EmbeddingBag(embed.BUCKETS, HIDDEN, mode="mean", sparse=True)
        lists = [embed.grams(p) if i >= 5 else [] for i, p in enumerate(pieces)]
        self.length = torch.tensor([len(l) for l in lists])
        self.start = F.pad(self.length.cumsum(0), (1, 0))[:-1]
        self.flat = torch.tensor([g for l in lists for g in l])

    def table(self, ids):
        n = self.length[ids]
        offsets = F.pad(n.cumsum(0), (1, 0))
        at = torch.arange(int(offsets[-1])) - torch.repeat_interleave(offsets[:-1], n) + torch.repeat_interleave(self.start[ids], n)
        return self.own(ids) + self.bag(self.flat[at], offsets[:-1])

    def forward(self, ids):
        uniq, inverse = torch.unique(ids, return_inverse=True)
        return F.embedding(inverse, self.table(uniq))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        lin = nn.Linear
        self.attention = nn.ModuleDict({
            "self": nn.ModuleDict({"query": lin(HIDDEN, HIDDEN), "key": lin(HIDDEN, HIDDEN), "value": lin(HIDDEN, HIDDEN)}),
            "output": nn.ModuleDict({"dense": lin(HIDDEN, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, EPS)})})
        self.intermediate = nn.ModuleDict({"dense": lin(HIDDEN, INNER)})
        self.output = nn.ModuleDict({"dense": lin(INNER, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, EPS)})

    def forward(self, x, mask, drop):
        b, t, _ = x.shape
        s, o = self.attention["self"], self.attention["output"]
        q, k, v = (s[n](x).view(b, t, ATTN, -1).transpose(1, 2) for n in ("query", "key", "value"))
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, t, HIDDEN)
        x = o["LayerNorm"](x + F.dropout(o["dense"](a), drop, self.training))
        y = self.output["dense"](F.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](x + F.dropout(y, drop, self.training))


class Head(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.dense, self.out_proj = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, labels)

    def forward(self, x, drop=0.0):
        return self.out_proj(F.dropout(torch.tanh(self.dense(x)), drop, self.training))


class Net(nn.Module):
    def __init__(self, words, drop=0.1):
        """words: a module from ids to vectors (Pieces for training, nn.Embedding for the exported table)."""
        super().__init__()
        self.embeddings = nn.ModuleDict({"word_embeddings": words, "position_embeddings": nn.Embedding(POSITIONS, HIDDEN),
                                         "token_type_embeddings": nn.Embedding(2, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, EPS)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.heads = nn.ModuleDict({k: Head(len(v)) for k, v in HEADS.items()})
        self.aux = nn.ModuleDict({k: nn.Linear(HIDDEN, n) for k, n in AUX.items()})
        self.drop = drop

    def forward(self, ids, real):
        """ids (B, T), real (B, T) bool -> hidden states (B, T, H)."""
        e = self.embeddings
        x = e["word_embeddings"](ids) + e["position_embeddings"].weight[: ids.shape[1]] + e["token_type_embeddings"].weight[0]
        x = F.dropout(e["LayerNorm"](x), self.drop, self.training)
        mask = None if bool(real.all()) else real[:, None, None, :]
        for layer in self.encoder["layer"]:
            x = layer(x, mask, self.drop)
        return x


def pool(hidden, spans):
    """Mean of hidden states over token spans: spans (N, 3) of (row, first, past the last)."""
    total = F.pad(hidden.cumsum(1), (0, 0, 1, 0))
    row, a, b = spans.T
    return (total[row, b] - total[row, a]) / (b - a).clamp(min=1)[:, None].to(hidden.dtype)


def start(minilm, vectors, pieces):
    """A network with MiniLM's lower layers and embed.py's vectors."""
    net = Net(Pieces(pieces))
    w = load_file(os.path.join(minilm, "model.safetensors"))
    own = net.state_dict()
    net.load_state_dict({k: w[k] for k in own if k in w and w[k].shape == own[k].shape}, strict=False)
    z = np.load(vectors)
    with torch.no_grad():
        net.embeddings["word_embeddings"].own.weight.copy_(torch.from_numpy(z["own"]))
        net.embeddings["word_embeddings"].bag.weight.copy_(torch.from_numpy(z["grams"]))
    return net
