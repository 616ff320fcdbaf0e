// The same module for `import`: both forms share the library and the classes.
export * from './index.js'
