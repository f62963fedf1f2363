"""The About tab's words."""

ABOUT = """
### What this shows
A vision-language model turns a picture into *latents*: a grid of vectors that changes from layer to layer. Foresight
takes them at one **extraction point**, lets a small **adapter** translate them for a frozen image decoder (the
**VAE**), and shows the picture that comes out. What it shows was still in the latents, in a form the adapter can read.
What it does not show may still be there, in a form that this adapter cannot read.

### Extraction points
`pre-merge/k` is the output of block k of the vision tower. `post-merge/0` is what the language model receives, after
2 × 2 patches were merged into one token; `post-merge/k` is the output of its layer k at the picture's tokens.

### Adapters
**linear**: one linear map for each token; what can be read off without any processing. **tokens**: keeps the grid, a
few convolutions. **pooled**: sees only the mean of all tokens, as in the seed study; where things are is mostly lost.
The scores on an adapter's note are of scenes that no adapter was trained on, with 95 % intervals of the mean.

### Scores
- **LPIPS**: how different two pictures look to a neural network; 0 is the same picture. The seed's target: below 0.35.
  The targets are shown for scenes like the seed's alone: one object on white.
- **HaarPSI**: how alike two pictures look, by their Haar wavelets; 1 is the same. A second opinion beside LPIPS: no
  adapter is trained on it. On white paper SSIM can put a blank page above a blurred reading; HaarPSI does not.
- **SSIM**: how alike the local structure is; 1 is the same. Target: above 0.75.
- **Mask IoU**: the overlap of the objects found in both pictures; 1 is exact. Target: above 0.60. It is 0 where no
  object stands out from the reconstruction's even background, even if a person still sees some. Where the
  reconstruction has no even background, objects cannot be told from it: the mask IoU is then *not measurable*, is
  counted apart and left out of every mean and order.
- **Edge F1**: how much of the outlines in both pictures is in the same place, to 2 pixels; 1 is all. It stands in the
  place of the mask IoU where a picture shows no objects on an even background, as photos do. Another photo gets 0.2.
- **PSNR**: closeness of the pixels in decibels; 30 is good.
- **Blank** is what an empty page scores, **oracle** the VAE's own round trip, the best any adapter could do. A pass
  says little where a blank page passes too.
- **Baselines** are what needs no reading at all: the blank page, and in Inspect, under the pictures, the **mean** of
  256 training scenes and the **nearest** of them, by their latents at the point. An adapter that only remembers shows
  the nearest; one that reads shows the picture.
- **Skill** puts a score between blank and oracle: 0 is no better than a blank page, 1 is the oracle, and below 0 is
  worse than showing nothing. There is none where the oracle itself is no better than a blank page.
- **Distance** tells how unlike its training pictures a picture's latents look to the adapter: 1 is usual, and 99 of 100
  training pictures stay under the limit. Beyond it, where the picture is read wrong too (LPIPS over 0.35), the scores
  speak of the adapter, which never learned such latents, more than of what the latents hold.

### The seed study
The work that this one starts from asked whether a language model's latents still hold what a picture looked like. It
read the mean of all tokens of Qwen2.5-VL-7B with an MLP, on 40 to 50 pictures of one shape on white, and set the
targets above. It had no baselines: on those very pictures a blank page scores LPIPS 0.352 and SSIM 0.943. The Findings
tab shows its numbers beside those of a study run here.

### The bundled model
A Qwen2.5-VL of eight million parameters that has only ever seen drawn scenes. It knows them well, and nothing else:
what it says of a photo means nothing.
"""
