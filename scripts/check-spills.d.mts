export type Instruction = [address: number, text: string];
export interface MachineFunction {
  file: string;
  name: string;
  instructions: Instruction[];
}
export interface HotFunction {
  file: string;
  name: string;
  size: number;
  found: number;
  budget: number;
}
export function functionsOf(symbols: string, disassembly: string): MachineFunction[];
export function worstLoop(instructions: Instruction[]): { size: number; found: number } | null;
export function hotFunctions(path: string): HotFunction[] | null;
export const BUDGETS_OF: RegExp;
export function compilersOf(path: string): string | null;
