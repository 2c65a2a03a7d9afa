"""The network: a BERT trunk (parameter names as in transformers' BertModel, no prefix) and the heads."""
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import data

HIDDEN, LAYERS, ATTN, INNER, POSITIONS, EPS = 384, 6, 12, 1536, 512, 1e-12
HEADS = {"sentiment": data.SENTIMENT, "intent": data.INTENT, "keyphrases": data.TAGS, "emotion": data.EMOTION}
AUX = {"domain": 22, "channel": len(data.CHANNEL)}  # only while training


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
        z = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3))  # by hand: PyTorch's fused attention is slow backwards on CPUs
        a = torch.matmul(torch.softmax(z if mask is None else z.masked_fill(mask, -1e4), -1), v).transpose(1, 2).reshape(b, t, HIDDEN)
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
    def __init__(self, pieces, layers=LAYERS, drop=0.1):
        super().__init__()
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(pieces, HIDDEN, sparse=True), "position_embeddings": nn.Embedding(POSITIONS, HIDDEN),
                                         "token_type_embeddings": nn.Embedding(2, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, EPS)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(layers))})
        self.heads = nn.ModuleDict({k: Head(len(v)) for k, v in HEADS.items()})
        self.aux = nn.ModuleDict({k: nn.Linear(HIDDEN, n) for k, n in AUX.items()})
        self.drop = drop

    def forward(self, ids, real):
        """ids (B, T), real (B, T) bool -> hidden states (B, T, H) in f32."""
        e = self.embeddings
        x = e["word_embeddings"](ids) + e["position_embeddings"].weight[: ids.shape[1]] + e["token_type_embeddings"].weight[0]
        x = F.dropout(e["LayerNorm"](x), self.drop, self.training)
        mask = None if bool(real.all()) else ~real[:, None, None, :]
        for layer in self.encoder["layer"]:
            x = layer(x, mask, self.drop)
        return x.float()


def pool(hidden, spans):
    """Mean of hidden states over token spans: spans (N, 3) of (row, first, past the last)."""
    total = F.pad(hidden.cumsum(1), (0, 0, 1, 0))
    row, a, b = spans.T
    return (total[row, b] - total[row, a]) / (b - a).clamp(min=1)[:, None].to(hidden.dtype)


def start(weights, layers):
    """A network whose i-th layer is number layers[i] of the file."""
    w = load_file(weights)
    net = Net(len(w["embeddings.word_embeddings.weight"]), len(layers))
    own = {}
    for k in net.state_dict():
        if k.startswith("encoder.layer."):
            _, _, i, rest = k.split(".", 3)
            own[k] = w["encoder.layer.%d.%s" % (layers[int(i)], rest)]
        elif k in w:
            own[k] = w[k]
    net.load_state_dict(own, strict=False)
    return net
