// Runs a model once with ONNX Runtime: node ort_run.js MODEL OUTDIR NAME=INPUT.bin:dtype:d0,d1 ...
// Writes each output's raw bytes to OUTDIR/<index>.bin and prints {name, dims, type} as JSON.
// NODE_PATH must lead to onnxruntime-node.
const ort = require('onnxruntime-node');
const fs = require('fs');

const arrays = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array, float16: Uint16Array,
  uint8: Uint8Array, int8: Int8Array };

function readInput(spec) {
  const [name, rest] = spec.split(/=(.*)/s);
  const [file, dtype, dims] = rest.split(':');
  const bytes = fs.readFileSync(file);
  const data = new arrays[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return [name, new ort.Tensor(dtype, data, dims === '' ? [] : dims.split(',').map(Number))];
}

async function main() {
  const [model, outdir, ...specs] = process.argv.slice(2);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, executionProviders: ['cpu'] });
  const results = await session.run(Object.fromEntries(specs.map(readInput)));
  const names = session.outputNames.map((name, i) => {
    const t = results[name];
    fs.writeFileSync(`${outdir}/${i}.bin`, Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    return { name, dims: t.dims, type: t.type };
  });
  console.log(JSON.stringify(names));
}
main().catch((e) => { console.error(String(e)); process.exit(1); });
