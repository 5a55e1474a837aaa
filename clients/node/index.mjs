import multilangd from "./index.cjs";

export const { CheckpointError, ProtocolError, Record, ShutdownError, ThrottlingError, run } = multilangd;
